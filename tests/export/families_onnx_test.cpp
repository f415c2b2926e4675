// Families of decoders as ONNX without a runtime: read again they are the same model, and a graph that computes
// something else than config.json says is refused.
#include <algorithm>
#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "export/export_testing.h"
#include "model/logits.h"
#include "model/onnx/onnx_weights.h"
#include "model/plain_reference.h"
#include "model/random_checkpoint.h"

namespace adze {
namespace {

using namespace testing;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

constexpr std::uint64_t kSeed = 20;
const std::vector<std::string> kExporters{"onnx", "onnx-qdq"};

void export_checkpoint(const std::string& exporter, const fs::path& checkpoint, const fs::path& out) {
  const auto model = open_checkpoint_model(checkpoint);
  const std::vector<StoreFile> files = read_folder_files(checkpoint);
  const ExportPlan plan{model->architecture(), planned_tensors(*model), nullptr, files, "test", {}};
  const auto made = find_exporter(exporter)->make();
  const std::uint64_t predicted = made->predict_bytes(plan);
  made->write(plan, *model, out, silent_progress());
  std::uint64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(out)) bytes += entry.file_size();
  EXPECT_EQ(predicted, bytes);
}

class FamiliesAsOnnx : public ::testing::TestWithParam<FamilyCase> {};

TEST_P(FamiliesAsOnnx, AreTheSameModelWhenReadAgain) {
  const TempFolder folder;
  const fs::path checkpoint = write_random_checkpoint(folder / "checkpoint", GetParam().config, kSeed);
  const auto model = open_checkpoint_model(checkpoint);
  const std::vector<std::int32_t> ids = random_ids(60, 4096);
  for (const std::string& exporter : kExporters) {
    SCOPED_TRACE(exporter);
    export_checkpoint(exporter, checkpoint, folder / exporter);
    const auto read = std::make_shared<OnnxWeights>(folder / exporter);
    EXPECT_EQ(read->architecture().family, model->architecture().family);
    EXPECT_EQ(logits_of(*read, ids), logits_of(*model, ids));
    const CheckpointWeights as_source(read->architecture(), std::make_shared<OnnxSource>(read));
    EXPECT_EQ(logits_of(as_source, ids), logits_of(*model, ids));
  }
}

INSTANTIATE_TEST_SUITE_P(Models, FamiliesAsOnnx, ::testing::ValuesIn(family_cases()),
                         [](const auto& one) { return one.param.name; });

/// A graph of one family beside a config.json with a setting that is not the graph's, or none (null). Words of what the
/// reader says, of `onnx` and of `onnx-qdq`.
struct OtherConfig {
  const char* family;
  nlohmann::json changes;
  const char* words;
  const char* standard_words;
};

const nlohmann::json kOtherLongFactors{{"rope_scaling",
                                        {{"long_factor", {1.0, 1.3, 1.9, 2.8, 4.5, 7.6}},
                                         {"short_factor", {1.0, 1.0, 1.1, 1.2, 1.5, 2.0}},
                                         {"type", "longrope"}}}};

std::vector<OtherConfig> other_configs() {
  const auto of = [](const char* hf_class) { return nlohmann::json{{"architectures", {hf_class}}}; };
  return {
      {"qwen3", of("LlamaForCausalLM"), "GroupQueryAttention' reads", "attn/q/Reshape' reads"},
      {"llama", of("Qwen3ForCausalLM"), "self_attn.q_norm/LayerNorm", "self_attn.q_norm/LayerNorm"},
      {"olmo2", of("LlamaForCausalLM"), "input_layernorm/LayerNorm", "input_layernorm/LayerNorm"},
      {"llama", of("Olmo2ForCausalLM"), "q_proj/MatMul' reads", "q_proj/MatMul' reads"},
      {"gemma",
       {{"architectures", {"LlamaForCausalLM"}}, {"hidden_act", "gelu_pytorch_tanh"}},
       "input_layernorm/LayerNorm' reads",
       "input_layernorm/LayerNorm/Mul' reads"},
      {"gemma2", {{"attn_logit_softcapping", 11.0}}, "softcap is not 11", "scores/cap/Div': its constant is [10]"},
      {"gemma2", {{"attn_logit_softcapping", nullptr}}, "softcap is not 0", "scores/Add' reads"},
      {"gemma3", {{"attn_logit_softcapping", 50.0}}, "softcap is not 50", "scores/cap/Div' is missing"},
      {"gemma2", {{"final_logit_softcapping", 20.0}}, "/lm_head/cap/Div'", "/lm_head/cap/Div'"},
      {"gemma2", {{"final_logit_softcapping", nullptr}}, "'/logits' reads", "'/logits' reads"},
      {"gemma2", {{"query_pre_attn_scalar", 64}}, "scale is not 0.125", "scores/Mul': its constant"},
      {"gemma2", {{"sliding_window", 17}}, "local_window_size is 16", "/model/window_mask/window/Sub': its constant"},
      {"gemma2", {{"sliding_window", nullptr}}, "local_window_size is 16", "scores/Add' reads"},
      {"gemma2",
       {{"layer_types", {"full_attention", "sliding_attention", "full_attention"}}},
       "local_window_size is 16",
       "scores/Add' reads"},
      {"gemma2", {{"hidden_activation", "silu"}}, "act_fn/Sigmoid' is missing", "act_fn/Sigmoid' is missing"},
      {"llama", {{"hidden_act", "relu"}}, "act_fn/Relu' is missing", "act_fn/Relu' is missing"},
      {"gemma3", {{"rope_local_base_freq", 20000.0}}, "'cos_cache_window'", "'cos_cache_window'"},
      {"gemma3", {{"rope_theta", 20000.0}}, "'cos_cache'", "'cos_cache'"},
      {"gemma3", {{"sliding_window_pattern", 3}}, "local_window_size is 16", "rotary/low_cos' reads"},
      {"phi3_partial", {{"partial_rotary_factor", 0.5}}, "rotary/Split': its constant", "rotary/Split': its constant"},
      {"phi3_partial", {{"partial_rotary_factor", 1.0}}, "num_outputs", "num_outputs"},
      {"llama_yarn_rope", {{"rope_scaling", nullptr}}, "another angle", "another angle"},
      {"opt", {{"activation_function", "gelu_new"}}, "act_fn/Gelu' is missing", "act_fn/Gelu' is missing"},
      {"gpt2", {{"n_positions", 255}}, "shape", "shape"},
      {"gpt2", {{"layer_norm_epsilon", 1e-6}}, "epsilon", "epsilon"},
      {"phi4_mini",
       {{"original_max_position_embeddings", 65}},
       "/model/rope/Greater': its",
       "/model/rope/Greater': its"},
      {"phi4_mini", {{"rope_scaling", nullptr}}, "positions/cos/Gather' reads", "positions/cos/Gather' reads"},
      {"phi3_longrope",
       {{"original_max_position_embeddings", 65}},
       "/model/rope/Greater': its",
       "/model/rope/Greater': its"},
      {"phi3_longrope", {{"rope_scaling", nullptr}}, "another RoPE", "positions/cos/Gather' reads"},
      {"phi4_mini", kOtherLongFactors, "another angle", "another angle"},
      {"mixtral", {{"num_experts_per_tok", 3}}, "router/TopK': its constant", "router/TopK': its constant"},
      {"olmoe", {{"norm_topk_prob", true}}, "router/ReduceSum' is missing", "router/ReduceSum' is missing"},
      {"qwen3_moe", {{"norm_topk_prob", false}}, "mlp/weights' reads", "mlp/weights' reads"},
      {"qwen3_moe", {{"num_experts", 9}}, "shape [8], want 7 and [9]", "shape [8], want 7 and [9]"},
      {"qwen3_moe", {{"num_experts", 7}}, "shape [8], want 7 and [7]", "shape [8], want 7 and [7]"},
  };
}

/// What reading a folder says.
std::string said_of(const fs::path& folder) {
  try {
    const OnnxWeights read(folder);
    (void)read.block(0);
    (void)read.positions();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_data);
    return error.what();
  }
  return "accepted";
}

/// Folders of families, exported once each.
class OnnxFamilyReader : public ::testing::Test {
 protected:
  fs::path folder_of(const std::string& family, const std::string& exporter) const {
    const fs::path checkpoint = folder / family, out = folder / (family + "-" + exporter);
    if (!fs::exists(checkpoint)) write_random_checkpoint(checkpoint, family_case(family).config, kSeed);
    if (!fs::exists(out)) export_checkpoint(exporter, checkpoint, out);
    return out;
  }

  TempFolder folder;
};

TEST_F(OnnxFamilyReader, RefusesGraphsThatAreNotOfTheConfiguration) {
  for (const OtherConfig& other : other_configs())
    for (const std::string& exporter : kExporters) {
      SCOPED_TRACE(fmt::format("{} {} {}", other.family, exporter, other.changes.dump()));
      const fs::path out = folder_of(other.family, exporter);
      EXPECT_EQ(said_of(out), "accepted");
      const std::string config = read_file(out / "config.json");
      auto changed = nlohmann::json::parse(config);
      changed.update(other.changes);
      write_file(out / "config.json", changed.dump());
      EXPECT_THAT(said_of(out), HasSubstr(exporter == "onnx" ? other.words : other.standard_words));
      write_file(out / "config.json", config);
    }
}

/// One change of the graph's bytes, of its last place.
struct OtherGraph {
  const char* family;
  const char* exporter;
  std::string from, to;
  const char* words;
};

std::string float_attribute(const std::string& name, float value) {
  std::string bytes(sizeof(float), '\0');
  std::memcpy(bytes.data(), &value, sizeof(float));
  return name + '\x15' + bytes;
}

std::string integer_attribute(const std::string& name, char value) { return name + '\x18' + value; }

/// A node's name with the tag of what follows it, so that values that are called after it stay.
std::string name_of_node(const std::string& name) { return name + '"'; }

/// An input with the tag and length in front of it, which a name of an initializer has not.
std::string input_of_node(const std::string& value) {
  return std::string{'\x0A', static_cast<char>(value.size())} + value;
}

TEST_F(OnnxFamilyReader, RefusesGraphsThatWereChanged) {
  const std::string block = "/model/layers.1.";
  const std::vector<OtherGraph> others{
      {"gemma2", "onnx", float_attribute("softcap", 10), float_attribute("softcap", 12), "softcap is not 10"},
      {"gemma2", "onnx", float_attribute("scale", 1 / std::sqrt(32.0f)), float_attribute("scale", 0.25f), "scale is"},
      {"gemma2", "onnx", integer_attribute("local_window_size", 16), integer_attribute("local_window_size", 17),
       "local_window_size is 17"},
      {"gemma2", "onnx", "approximate\"\x04tanh", "approximate\"\x04none", "approximate is not tanh"},
      {"gpt2", "onnx-qdq", "approximate\"\x04tanh", "approximate\"\x04none", "approximate is not tanh"},
      {"gemma2", "onnx-qdq", name_of_node("/lm_head/cap/Tanh"), name_of_node("/lm_head/cap/Tanx"),
       "'/lm_head/cap/Tanh' is missing"},
      {"gemma2", "onnx-qdq", "/model/window_mask/Where/output_0", "/model/wrong__mask/Where/output_0",
       "scores/Add' reads"},
      {"gemma3", "onnx", input_of_node("cos_cache_window"), input_of_node("sin_cache_window"), "another RoPE"},
      {"qwen3", "onnx", name_of_node(block + "self_attn.q_norm/LayerNorm"),
       name_of_node(block + "self_attn.q_norm/LayerNorx"), "self_attn.q_norm/LayerNorm"},
      {"qwen3", "onnx", "self_attn.k_norm/LayerNorm/flat/output_0", "self_attn.q_norm/LayerNorm/flat/output_0",
       "GroupQueryAttention' reads"},
      {"qwen3", "onnx-qdq", name_of_node(block + "self_attn.k_norm/LayerNorm/Div"),
       name_of_node(block + "self_attn.k_norm/LayerNorm/Dix"), "LayerNorm/Div' is missing"},
      {"olmo2", "onnx", name_of_node(block + "post_feedforward_layernorm/LayerNorm"),
       name_of_node(block + "post_feedforward_layernorm/LayerNorx"), "post_feedforward_layernorm/LayerNorm"},
      {"gpt2", "onnx", name_of_node(block + "final_layer_norm/LayerNorm"),
       name_of_node(block + "final_layer_norm/LayerNorx"), "final_layer_norm/LayerNorm' is missing"},
      {"opt", "onnx", name_of_node("/model/embed_positions/states/Add"),
       name_of_node("/model/embed_positions/states/Adx"), "embed_positions/states/Add' is missing"},
      {"mixtral", "onnx", input_of_node("/model/layers.1/mlp/experts.6/rows"),
       input_of_node("/model/layers.1/mlp/experts.5/rows"), "experts.6.w"},
      {"mixtral", "onnx-qdq", input_of_node("/model/layers.1.block_sparse_moe.experts.6.w2/MatMul/output_0"),
       input_of_node("/model/layers.1.block_sparse_moe.experts.5.w2/MatMul/output_0"), "experts/Concat' reads"},
      {"qwen3_moe", "onnx", input_of_node("/model/layers.1/mlp/back/places"),
       input_of_node("/model/layers.0/mlp/back/places"), "made/Gather' reads"},
      {"qwen3_moe", "onnx", integer_attribute("largest", 0), integer_attribute("largest", 1), "largest is 1"},
      {"qwen3_moe", "onnx-qdq", input_of_node("/model/layers.1/mlp/router/Softmax/output_0"),
       input_of_node("/model/layers.0/mlp/router/Softmax/output_0"), "router/TopK' reads"},
      {"qwen2_moe", "onnx", name_of_node("/model/layers.1/mlp/shared_expert/Sigmoid"),
       name_of_node("/model/layers.1/mlp/shared_expert/Sigmoix"), "shared_expert/Sigmoid' is missing"},
      {"phi3_longrope", "onnx", input_of_node("/model/rope/cos_cache/Slice/output_0"),
       input_of_node("/model/rope/sin_cache/Slice/output_0"), "another RoPE"},
  };
  for (const OtherGraph& other : others) {
    SCOPED_TRACE(fmt::format("{} {} {}", other.family, other.exporter, other.words));
    const fs::path out = folder_of(other.family, other.exporter);
    const std::string whole = read_file(out / "model.onnx");
    ASSERT_EQ(other.from.size(), other.to.size());
    const std::size_t at = whole.rfind(other.from);
    ASSERT_NE(at, std::string::npos);
    std::string bytes = whole;
    write_file(out / "model.onnx", bytes.replace(at, other.from.size(), other.to));
    EXPECT_THAT(said_of(out), HasSubstr(other.words));
    write_file(out / "model.onnx", whole);
  }
}

/// onnxruntime-genai refuses types that it does not know.
TEST_F(OnnxFamilyReader, GenaiIsToldATypeThatItKnows) {
  const auto type_of = [&](const char* family) {
    return nlohmann::json::parse(read_file(folder_of(family, "onnx") / "genai_config.json"))["model"]["type"];
  };
  EXPECT_EQ(type_of("gemma3"), "gemma3_text");
  EXPECT_EQ(type_of("olmo2"), "decoder");
  EXPECT_EQ(type_of("opt"), "decoder");
  EXPECT_EQ(type_of("qwen3_moe"), "decoder");
  // Of "phi3" the cache is computed anew at 4097 tokens, and at no other number; Phi-3 is read as Mistral.
  EXPECT_EQ(type_of("phi4_mini"), "mistral");
  nlohmann::json config = family_case("phi4_mini").config;
  config.update({{"original_max_position_embeddings", 4096}, {"max_position_embeddings", 8192}});
  export_checkpoint("onnx", write_random_checkpoint(folder / "longer", config, kSeed), folder / "longer-onnx");
  EXPECT_EQ(nlohmann::json::parse(read_file(folder / "longer-onnx" / "genai_config.json"))["model"]["type"], "phi3");
}

TEST(OnnxRemarks, TellOfTextsThatOutgrowTheirRope) {
  const auto remark = [](const char* family) {
    PlannedTensor table;
    table.spec.role = TensorRole::embedding;
    table.spec.shape = {4096, 64};
    table.format = "f16";
    return find_exporter("onnx")->make()->remark(parse_architecture(family_case(family).config, family), table);
  };
  EXPECT_THAT(remark("phi4_mini").value_or(""), HasSubstr("above 64 tokens"));
  EXPECT_EQ(remark("phi3"), std::nullopt);
}

TEST_F(OnnxFamilyReader, TakesTheOffsetOfGainsOffAgain) {
  const fs::path out = folder_of("gemma2", "onnx");
  const OnnxWeights read(out);
  const auto model = open_checkpoint_model(folder / "gemma2");
  const std::vector<std::byte> bytes = read.file().read(*read.file().find_tensor("model.norm.weight"));
  std::vector<float> stored(bytes.size() / sizeof(float));
  std::memcpy(stored.data(), bytes.data(), bytes.size());
  EXPECT_EQ(stored, gains_of_norm(model->architecture(), model->final_norm()));
  EXPECT_EQ(gains_of_norm(read.architecture(), read.final_norm()), stored);
}

}  // namespace
}  // namespace adze
