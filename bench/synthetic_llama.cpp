// Writes a Llama (or, with experts, Mixtral) checkpoint of any size with random weights: bf16, sharded, with a
// tokenizer that fits a smaller vocabulary. For measuring memory and time, which do not depend on what the weights are;
// the text it makes is noise.
//
//   adze-synthetic OUT --hidden 2048 --layers 22 --ffn 5632 --heads 32 --kv-heads 4 --vocab 32000
#include <tuple>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/random.h"
#include "checkpoint/safetensors_writer.h"
#include "model/architecture.h"
#include "model/tensors.h"

namespace {

using namespace adze;
namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr float kScale = 0.03f;  // uniform in +-kScale: about the spread of trained weights, so that nothing overflows
constexpr std::size_t kPiece = std::size_t{1} << 18;

Json config_of(const Architecture& a) {
  Json config{{"architectures", {a.family}},
              {"model_type", a.info().model_type},
              {"hidden_size", a.hidden},
              {"intermediate_size", a.ffn},
              {"num_hidden_layers", a.layers},
              {"num_attention_heads", a.heads},
              {"num_key_value_heads", a.kv_heads},
              {"head_dim", a.head_dim},
              {"vocab_size", a.vocab},
              {"rms_norm_eps", 1e-5},
              {"rope_theta", 10000.0},
              {"max_position_embeddings", a.max_positions},
              {"hidden_act", "silu"},
              {"tie_word_embeddings", a.tied},
              {"torch_dtype", "bfloat16"},
              {"bos_token_id", 0},
              {"eos_token_id", 1}};
  if (a.is_mixture()) {
    config["num_local_experts"] = a.experts;
    config["num_experts_per_tok"] = a.experts_per_token;
  }
  return config;
}

std::string shard_name(std::size_t shard, std::size_t shards) {
  return fmt::format("model-{:05}-of-{:05}.safetensors", shard + 1, shards);
}

std::uint64_t count_of(const SafetensorsTensor& tensor) {
  std::uint64_t count = 1;
  for (const std::uint64_t dimension : tensor.shape) count *= dimension;
  return count;
}

/// Norms are ones, everything else is uniform noise keyed by the tensor's name.
void write_tensor(SafetensorsWriter& writer, const SafetensorsTensor& tensor) {
  RandomStream random(1, tensor.name);
  const std::uint64_t count = count_of(tensor);
  std::vector<std::uint16_t> values;
  for (std::uint64_t first = 0; first < count; first += kPiece) {
    values.assign(std::min<std::uint64_t>(kPiece, count - first), float_to_bf16(1.0f));
    if (tensor.shape.size() == 2)
      for (std::uint16_t& value : values)
        value = float_to_bf16(kScale * (static_cast<float>(random.next() >> 40) * 0x1p-23f - 1.0f));
    writer.write(tensor.name, std::as_bytes(std::span(values)));
  }
}

/// One shard for what lies outside blocks, then one for every four of them.
std::vector<std::vector<SafetensorsSpec>> shards_of(const Architecture& architecture) {
  constexpr std::size_t kBlocksPerShard = 4;
  std::vector<std::vector<SafetensorsSpec>> shards(1);
  for (const TensorSpec& spec : expected_tensors(architecture)) {
    const std::size_t shard = spec.block ? 1 + *spec.block / kBlocksPerShard : 0;
    shards.resize(std::max(shards.size(), shard + 1));
    shards[shard].push_back({spec.hf_name, SafetensorsType::bf16, spec.shape});
  }
  return shards;
}

void write_checkpoint(const fs::path& out, const Architecture& architecture, const fs::path& tokenizer) {
  make_folder(out);
  for (const char* const name : {"tokenizer.json", "tokenizer_config.json"})
    write_file(out / name, read_file(tokenizer / name));
  write_file(out / "config.json", config_of(architecture).dump(1) + "\n");
  Json index{{"metadata", {{"total_size", 0}}}, {"weight_map", Json::object()}};
  std::uint64_t total = 0;
  const auto shards = shards_of(architecture);
  for (std::size_t s = 0; s < shards.size(); ++s) {
    SafetensorsWriter writer(out / shard_name(s, shards.size()), shards[s]);
    for (const SafetensorsTensor& tensor : writer.order()) {
      write_tensor(writer, tensor);
      index["weight_map"][tensor.name] = shard_name(s, shards.size());
      total += count_of(tensor) * sizeof(std::uint16_t);
    }
    writer.commit();
  }
  index["metadata"]["total_size"] = total;
  write_file(out / "model.safetensors.index.json", index.dump(1) + "\n");
  fmt::print("{}: {:.3f} billion weights, {} bytes\n", out.string(), static_cast<double>(total) / 2e9, total);
}

}  // namespace

int main(int argc, char** argv) {
  Architecture a;
  std::tie(a.hidden, a.ffn, a.layers) = std::tuple(2048, 5632, 22);
  std::tie(a.heads, a.kv_heads, a.head_dim) = std::tuple(32, 4, 64);
  std::tie(a.vocab, a.max_positions) = std::tuple(32000, 2048);
  std::string out;
  std::string tokenizer = ADZE_SOURCE_DIR "/tests/models/demo-llama";
  CLI::App app("Writes a Llama checkpoint with random weights.", "adze-synthetic");
  app.add_option("out", out, "the folder to make")->required();
  app.add_option("--hidden", a.hidden, "width")->capture_default_str();
  app.add_option("--ffn", a.ffn, "width of the FFN")->capture_default_str();
  app.add_option("--layers", a.layers, "blocks")->capture_default_str();
  app.add_option("--heads", a.heads, "heads of queries")->capture_default_str();
  app.add_option("--kv-heads", a.kv_heads, "heads of keys and values")->capture_default_str();
  app.add_option("--head-dim", a.head_dim, "width of a head")->capture_default_str();
  app.add_option("--vocab", a.vocab, "tokens; at least those of the tokenizer")->capture_default_str();
  app.add_option("--experts", a.experts, "experts in the place of the FFN, each as wide; 0: there is one FFN");
  app.add_option("--experts-per-token", a.experts_per_token, "of the experts, those that a token goes to");
  app.add_option("--tokenizer", tokenizer, "folder of tokenizer.json")->capture_default_str();
  app.add_flag("--tied", a.tied, "the head is the embedding table");
  CLI11_PARSE(app, argc, argv);
  try {
    if (a.is_mixture()) {
      a.family = "MixtralForCausalLM";
      a.expert_ffn = a.ffn;
      a.renormalised = true;
    }
    check_architecture(a, "command line");
    write_checkpoint(out, a, tokenizer);
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "adze-synthetic: {}\n", error.what());
    return 1;
  }
}
