// Every family of decoders as GGUF: read again by us it is the same model, and llama.cpp predicts from it what our
// forward pass predicts from the checkpoint. Files with one thing wrong show that the comparison would see it.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <functional>
#include <stdexcept>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "checkpoint/safetensors_folder.h"
#include "export/llama_cpp.h"
#include "model/gguf_source.h"
#include "model/gguf_testing.h"
#include "model/plain_reference.h"
#include "model/random_checkpoint.h"

namespace adze {
namespace {

using namespace testing;
namespace fs = std::filesystem;

constexpr std::uint64_t kSeed = 20;
constexpr std::size_t kTokens = 100;  // several windows, and more than the original context of the scaled RoPEs
constexpr double kLikely = 1e-3;      // probability from which on tokens are compared
constexpr double kTolerance = 1e-2;   // of a log-probability: llama.cpp keeps keys and values as f16
constexpr double kDecided = 1e-2;     // of a router's logit; those f16 move them by some 1e-3

/// Cases that llama.cpp computes otherwise, which is no error of the file.
struct Exempt {
  std::string_view family;
  std::string_view reason;
};
constexpr std::array kNotAsInLlamaCpp = {
    Exempt{"mistral", "llama.cpp's architecture `llama`, which Mistral is there, knows no sliding window"},
    Exempt{"phi3_longrope", "llama.cpp has switched the window of its architecture `phi3` off"}};

bool is_exempt(const FamilyCase& family) {
  return std::ranges::find(kNotAsInLlamaCpp, family.name, &Exempt::family) != kNotAsInLlamaCpp.end();
}

/// All but those that no file can say.
std::vector<FamilyCase> cases_in_gguf() {
  std::vector<FamilyCase> cases = family_cases();
  std::erase_if(cases, [](const FamilyCase& family) { return family.name == "opt"; });
  return cases;
}

std::vector<FamilyCase> cases_in_llama_cpp() {
  std::vector<FamilyCase> cases = cases_in_gguf();
  std::erase_if(cases, is_exempt);
  return cases;
}

const auto kNameOfCase = [](const auto& case_info) { return case_info.param.name; };

/// The checkpoint as GGUF, every matrix in F32 as it is stored.
void export_checkpoint(const fs::path& checkpoint, const fs::path& gguf) {
  const auto model = open_checkpoint_model(checkpoint);
  const std::vector<StoreFile> files = read_folder_files(checkpoint);
  const ExportPlan plan{model->architecture(), planned_tensors(*model), &demo().tokenizer, files, "family", {}};
  find_exporter("gguf")->make()->write(plan, *model, gguf, silent_progress());
}

Windows one_window(std::size_t tokens) { return {random_ids(tokens, 4096)}; }

/// Random tokens, of which others take the place of those that a router is nearly undecided about: the other choice
/// would be no error, and another token altogether.
std::vector<std::int32_t> decided_ids(const fs::path& checkpoint) {
  constexpr int kMostTries = 100;
  std::vector<std::int32_t> ids = random_ids(kTokens, 4096);
  for (int i = 0; i < kMostTries; ++i) {
    const std::vector<double> margins = reference_routing(checkpoint, ids).margins;
    if (*std::ranges::min_element(margins) > kDecided) return ids;
    for (std::size_t t = 0; t < ids.size(); ++t)
      if (margins[t] <= kDecided) ids[t] = (ids[t] + 1) % 4096;
  }
  throw std::runtime_error("no text that the routers are decided about");
}

class FamiliesAsGguf : public ::testing::TestWithParam<FamilyCase> {};

TEST_P(FamiliesAsGguf, AreTheSameModelWhenReadAgain) {
  const TempFolder folder;
  const fs::path checkpoint = write_random_checkpoint(folder / "checkpoint", GetParam().config, kSeed);
  export_checkpoint(checkpoint, folder / "model.gguf");
  // The window gets lost, since its runtime has none: a text that is no longer.
  const auto tokens = is_exempt(GetParam()) ? GetParam().config.at("sliding_window").get<std::size_t>() : kTokens;
  const Windows windows = one_window(tokens);
  const MatrixF original = our_logits(*open_checkpoint_model(checkpoint), windows);
  EXPECT_LT(largest_difference(our_logits(GgufWeights(folder / "model.gguf"), windows), original),
            1e-5 * range_of(original));
}

INSTANTIATE_TEST_SUITE_P(Models, FamiliesAsGguf, ::testing::ValuesIn(cases_in_gguf()), kNameOfCase);

void expect_refused(const char* family, const nlohmann::json& changes, std::string_view words) {
  const TempFolder folder;
  nlohmann::json config = family_case(family).config;
  config.update(changes);
  const fs::path checkpoint = write_random_checkpoint(folder / "checkpoint", config, kSeed);
  expect_error(ErrorKind::bad_data, words, [&] { export_checkpoint(checkpoint, folder / "model.gguf"); });
}

TEST(FamiliesAsGgufToo, AreRefusedWhereTheRuntimeWouldComputeSomethingElse) {
  expect_refused("qwen2", {{"partial_rotary_factor", 0.75}}, "rotates whole heads");
  expect_refused("mixtral", {{"partial_rotary_factor", 0.75}}, "rotates whole heads");
  expect_refused("phi4_mini", {{"head_dim", 16}, {"num_attention_heads", 2}}, "heads as wide as the states together");
  expect_refused("qwen2", {{"rope_scaling", family_case("llama_llama3_rope").config["rope_scaling"]}},
                 "no RoPE factors of each pair");
  expect_refused("gemma", {{"tie_word_embeddings", false}}, "no head of its own");
  expect_refused("olmo2", {{"tie_word_embeddings", true}}, "has a head of its own");
  expect_refused("gemma2", {{"query_pre_attn_scalar", 48}}, "root of 32, not of 48");
  expect_refused("gemma2", {{"attn_logit_softcapping", nullptr}}, "soft-capping");
  expect_refused("gemma3", {{"final_logit_softcapping", 30.0}}, "soft-capping");
  expect_refused("gemma3", {{"sliding_window_pattern", 3}}, "every 6th layer");
  expect_refused("llama", {{"hidden_act", "gelu_pytorch_tanh"}}, "another activation");
  expect_refused("opt", nlohmann::json::object(),
                 "it is llama.cpp's 'gpt2', whose activation is gelu_pytorch_tanh, not relu");
}

/// The runtime's graphs have this for granted.
TEST(FamiliesAsGgufToo, AreRefusedWhereTheRuntimeWouldMixExpertsOtherwise) {
  expect_refused("qwen3_moe", {{"norm_topk_prob", false}}, "expert");
  expect_refused("olmoe", {{"norm_topk_prob", true}}, "expert");
  expect_refused("qwen2_moe", {{"norm_topk_prob", true}}, "expert");
  expect_refused("olmoe", {{"tie_word_embeddings", true}}, "has a head of its own");
  expect_refused("qwen2_moe", {{"tie_word_embeddings", true}}, "has a head of its own");
  expect_refused("olmoe", {{"num_key_value_heads", 2}}, "heads");
}

/// Dims of a tensor of the first block, fastest first.
std::vector<std::uint64_t> dims_of(const GgufFile& file, const std::string& name) {
  const GgufTensor* const tensor = file.find_tensor("blk.0." + name + ".weight");
  return tensor == nullptr ? std::vector<std::uint64_t>() : tensor->dims;
}

TEST(MixturesAsGguf, HaveTheSizesOfTheirExpertsAsKeysAndTheirExpertsStacked) {
  const TempFolder folder;
  export_checkpoint(write_random_checkpoint(folder / "checkpoint", family_case("qwen2_moe").config, kSeed),
                    folder / "model.gguf");
  const GgufFile file(folder / "model.gguf");
  EXPECT_EQ(file.get<std::uint32_t>("qwen2moe.expert_count"), 6u);
  EXPECT_EQ(file.get<std::uint32_t>("qwen2moe.expert_used_count"), 2u);
  EXPECT_EQ(file.get<std::uint32_t>("qwen2moe.expert_feed_forward_length"), 32u);
  EXPECT_EQ(file.get<std::uint32_t>("qwen2moe.expert_shared_feed_forward_length"), 96u);
  using Dims = std::vector<std::uint64_t>;
  EXPECT_EQ(dims_of(file, "ffn_gate_inp"), (Dims{64, 6}));
  EXPECT_EQ(dims_of(file, "ffn_gate_exps"), (Dims{64, 32, 6}));
  EXPECT_EQ(dims_of(file, "ffn_up_exps"), (Dims{64, 32, 6}));
  EXPECT_EQ(dims_of(file, "ffn_down_exps"), (Dims{32, 64, 6}));
  EXPECT_EQ(dims_of(file, "ffn_gate_inp_shexp"), (Dims{64}));
  EXPECT_EQ(dims_of(file, "ffn_gate_shexp"), (Dims{64, 96}));
  EXPECT_EQ(dims_of(file, "ffn_down_shexp"), (Dims{96, 64}));
  for (const GgufTensor& tensor : file.tensors()) EXPECT_EQ(tensor.name.find("ffn_gate."), std::string::npos);
}

TEST(Gpt2AsGguf, HasQueriesKeysAndValuesInOneTensorAndPositionsFromTheFirstRow) {
  const TempFolder folder;
  const fs::path checkpoint = write_random_checkpoint(folder / "checkpoint", family_case("gpt2").config, kSeed);
  export_checkpoint(checkpoint, folder / "model.gguf");
  const GgufFile file(folder / "model.gguf");
  EXPECT_EQ(file.get<std::string>("general.architecture"), "gpt2");
  EXPECT_EQ(file.get<std::uint32_t>("gpt2.context_length"), 256u);
  EXPECT_EQ(file.get<std::uint32_t>("gpt2.feed_forward_length"), 256u);
  EXPECT_EQ(file.get<float>("gpt2.attention.layer_norm_epsilon"), 1e-5f);
  for (const char* const key : {"gpt2.attention.layer_norm_rms_epsilon", "gpt2.rope.freq_base"})
    EXPECT_EQ(file.find_value(key), nullptr) << key;
  using Dims = std::vector<std::uint64_t>;
  EXPECT_EQ(dims_of(file, "attn_qkv"), (Dims{64, 192}));
  EXPECT_EQ(dims_of(file, "ffn_up"), (Dims{64, 256}));
  for (const char* const name : {"attn_q", "attn_k", "attn_v", "ffn_gate"}) EXPECT_EQ(dims_of(file, name), Dims());
  for (const char* const name : {"blk.0.attn_qkv.bias", "blk.0.attn_norm.bias", "blk.0.ffn_norm.bias",
                                 "output_norm.bias", "blk.2.ffn_down.bias"})
    EXPECT_NE(file.find_tensor(name), nullptr) << name;
  EXPECT_EQ(file.find_tensor("position_embd.weight")->dims, (Dims{64, 256}));
  EXPECT_EQ(file.find_tensor("output.weight"), nullptr);
  const std::shared_ptr<const TensorSource> stored = open_checkpoint_folder(checkpoint);
  std::vector<std::byte> positions(256 * 64 * sizeof(float));
  stored->read(*stored->find("transformer.wpe.weight"), 0, positions);
  EXPECT_TRUE(tensor_bytes(file, "position_embd.weight") == positions);
}

TEST(Phi3AsGguf, HasItsMatricesFusedAndTwoSetsOfFactors) {
  const TempFolder folder;
  export_checkpoint(write_random_checkpoint(folder / "checkpoint", family_case("phi4_mini").config, kSeed),
                    folder / "model.gguf");
  const GgufFile file(folder / "model.gguf");
  EXPECT_EQ(file.get<std::string>("general.architecture"), "phi3");
  EXPECT_EQ(file.get<std::uint32_t>("phi3.rope.dimension_count"), 12u);
  EXPECT_EQ(file.get<std::uint32_t>("phi3.attention.key_length"), 16u);
  EXPECT_EQ(file.get<std::uint32_t>("phi3.rope.scaling.original_context_length"), 64u);
  EXPECT_EQ(file.get<float>("phi3.rope.scaling.attn_factor"),
            static_cast<float>(std::sqrt(1 + std::log(4.0) / std::log(64.0))));
  using Dims = std::vector<std::uint64_t>;
  EXPECT_EQ(dims_of(file, "attn_qkv"), (Dims{64, 128}));
  EXPECT_EQ(dims_of(file, "ffn_up"), (Dims{64, 192}));
  for (const char* const name : {"attn_q", "attn_k", "attn_v", "ffn_gate"}) EXPECT_EQ(dims_of(file, name), Dims());
  EXPECT_EQ(file.find_tensor("rope_freqs.weight"), nullptr);
  ASSERT_NE(file.find_tensor("rope_factors_long.weight"), nullptr);
  EXPECT_EQ(file.find_tensor("rope_factors_long.weight")->dims, Dims{6});
  const std::vector<float> within{1.0f, 1.0f, 1.1f, 1.2f, 1.5f, 2.0f};
  EXPECT_TRUE(std::ranges::equal(tensor_bytes(file, "rope_factors_short.weight"), std::as_bytes(std::span(within))));
  const Architecture again = GgufWeights(folder / "model.gguf").architecture();
  EXPECT_EQ(again.family, "MistralForCausalLM");
  EXPECT_EQ(again.rotary_dim, 12u);
  EXPECT_EQ(again.rope.long_divisors.back(), 7.5);
}

/// Rows of q, k and v, of gate and of up lie in the file as in the checkpoint.
TEST(Phi3AsGguf, HasTheRowsOfTheCheckpoint) {
  const TempFolder folder;
  const fs::path checkpoint = write_random_checkpoint(folder / "checkpoint", family_case("phi3_partial").config, kSeed);
  export_checkpoint(checkpoint, folder / "model.gguf");
  const GgufFile file(folder / "model.gguf");
  const auto stored = open_checkpoint_folder(checkpoint);
  for (const auto& [ours, theirs] : {std::pair{"blk.1.attn_qkv.weight", "model.layers.1.self_attn.qkv_proj.weight"},
                                     std::pair{"blk.1.ffn_up.weight", "model.layers.1.mlp.gate_up_proj.weight"}}) {
    const TensorInfo* const tensor = stored->find(theirs);
    std::vector<std::byte> bytes(tensor->bytes);
    stored->read(*tensor, 0, bytes);
    EXPECT_TRUE(tensor_bytes(file, ours) == bytes) << ours;
  }
}

/// Rows that no token has may hold anything, and no file has them.
TEST(OptAsGguf, IsTheSameModelWhereItsActivationIsGelu) {
  const TempFolder folder;
  nlohmann::json config = family_case("opt").config;
  config["activation_function"] = "gelu_new";
  const fs::path checkpoint = write_random_checkpoint(folder / "checkpoint", config, kSeed);
  export_checkpoint(checkpoint, folder / "model.gguf");
  const Windows windows = one_window(kTokens);
  const MatrixF original = our_logits(*open_checkpoint_model(checkpoint), windows);
  EXPECT_LT(largest_difference(our_logits(GgufWeights(folder / "model.gguf"), windows), original),
            1e-5 * range_of(original));
}

/// That stack `name` of block 1 is tensor model.layers.1.MODULE.0.LINEAR, then that of expert 1, and so on.
void expect_stack(const GgufFile& file, const TensorSource& checkpoint, const std::string& name,
                  const std::string& module, const std::string& linear) {
  const std::vector<std::byte> stack = tensor_bytes(file, "blk.1." + name + ".weight");
  std::vector<std::byte> expected;
  for (int e = 0; e < 8; ++e) {
    const TensorInfo* const expert = checkpoint.find(fmt::format("model.layers.1.{}.{}.{}.weight", module, e, linear));
    std::vector<std::byte> bytes(expert->bytes);
    checkpoint.read(*expert, 0, bytes);
    expected.insert(expected.end(), bytes.begin(), bytes.end());
  }
  EXPECT_TRUE(stack == expected) << name;
}

TEST(MixturesAsGguf, StackTheirExpertsInOrder) {
  for (const char* const name : {"mixtral", "qwen3_moe"}) {
    SCOPED_TRACE(name);
    const bool mixtral = name == std::string_view("mixtral");
    const TempFolder folder;
    const fs::path checkpoint = write_random_checkpoint(folder / "checkpoint", family_case(name).config, kSeed);
    export_checkpoint(checkpoint, folder / "model.gguf");
    const GgufFile file(folder / "model.gguf");
    const auto source = open_checkpoint_folder(checkpoint);
    const std::string module = mixtral ? "block_sparse_moe.experts" : "mlp.experts";
    expect_stack(file, *source, "ffn_gate_exps", module, mixtral ? "w1" : "gate_proj");
    expect_stack(file, *source, "ffn_up_exps", module, mixtral ? "w3" : "up_proj");
    expect_stack(file, *source, "ffn_down_exps", module, mixtral ? "w2" : "down_proj");
  }
}

TEST(MixturesAsGguf, KeepFamilyAndSizesWhenReadAgain) {
  for (const FamilyCase& family : mixture_cases()) {
    SCOPED_TRACE(family.name);
    const TempFolder folder;
    const fs::path checkpoint = write_random_checkpoint(folder / "checkpoint", family.config, kSeed);
    export_checkpoint(checkpoint, folder / "model.gguf");
    const Architecture original = read_architecture(checkpoint);
    const Architecture again = GgufWeights(folder / "model.gguf").architecture();
    EXPECT_EQ(again.family, original.family);
    EXPECT_EQ(again.experts, original.experts);
    EXPECT_EQ(again.experts_per_token, original.experts_per_token);
    EXPECT_EQ(again.expert_ffn, original.expert_ffn);
    EXPECT_EQ(again.shared_ffn, original.shared_ffn);
    EXPECT_EQ(again.renormalised, original.renormalised);
  }
}

struct Comparison {
  double worst = 0;          ///< largest difference of log-probabilities
  std::size_t compared = 0;  ///< tokens that one of the two finds likely
};

/// theirs: probabilities, ours: their logarithms; both [positions x vocabulary].
Comparison compare(const MatrixF& theirs, const MatrixD& ours) {
  Comparison result;
  if (theirs.shape() != ours.shape()) throw std::runtime_error("distributions of different shapes");
  for (std::size_t i = 0; i < ours.values().size(); ++i) {
    const double p = theirs.values()[i], log = ours.values()[i];
    if (p < kLikely && std::exp(log) < kLikely) continue;
    result.worst = std::max(result.worst, std::abs(std::log(p) - log));
    ++result.compared;
  }
  return result;
}

/// llama.cpp with one case's checkpoint, exported.
class FamiliesInLlamaCpp : public LlamaCpp {
 protected:
  void make(const FamilyCase& family) {
    checkpoint = write_random_checkpoint(folder / "checkpoint", family.config, kSeed);
    export_checkpoint(checkpoint, folder / "true.gguf");
    ids = decided_ids(checkpoint);
  }
  Comparison compare_with_ours(const std::string& gguf, std::size_t tokens = kTokens) const {
    const std::vector<std::int32_t> window(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(tokens));
    const Windows windows = {window};
    const auto model = open_checkpoint_model(checkpoint);
    return compare(distribution(gguf, windows), log_probabilities(our_logits(*model, windows)));
  }

  fs::path checkpoint;
  std::vector<std::int32_t> ids;
};

class EveryFamilyInLlamaCpp : public FamiliesInLlamaCpp, public ::testing::WithParamInterface<FamilyCase> {};

TEST_P(EveryFamilyInLlamaCpp, PredictsWhatOurForwardPassPredicts) {
  make(GetParam());
  const Comparison found = compare_with_ours("true.gguf");
  RecordProperty("worst", std::to_string(found.worst));
  std::printf("llama.cpp against us, %s: %zu log-probabilities differ by up to %.2g\n", GetParam().name.c_str(),
              found.compared, found.worst);
  EXPECT_LT(found.worst, kTolerance);
  EXPECT_GT(found.compared, 5 * kTokens) << "distributions this peaked compare little";
}

INSTANTIATE_TEST_SUITE_P(Models, EveryFamilyInLlamaCpp, ::testing::ValuesIn(cases_in_llama_cpp()), kNameOfCase);

TEST_F(FamiliesInLlamaCpp, AgreesWithMistralOnlyAsFarAsItsWindow) {
  const FamilyCase family = family_case("mistral");
  make(family);
  const auto window = family.config.at("sliding_window").get<std::size_t>();
  EXPECT_LT(compare_with_ours("true.gguf", window).worst, kTolerance);
  EXPECT_GT(compare_with_ours("true.gguf").worst, kTolerance) << "it has the window now: take it off the list";
}

/// One thing wrong with the file of a case.
struct BrokenFile {
  std::string_view family;
  std::string what;
  std::function<void(GgufParts&)> spoil;
};

GgufParts parts_of(const GgufFile& file) {
  GgufParts parts;
  parts.metadata.assign(file.metadata().begin(), file.metadata().end());
  for (const GgufTensor& tensor : file.tensors()) {
    parts.tensors.push_back({tensor.name, tensor.type->id, tensor.dims});
    parts.data.push_back(tensor_bytes(file, tensor.name));
  }
  return parts;
}

/// Gives a key that the file has another value of the same type.
std::function<void(GgufParts&)> set(const std::string& key, const GgufValue& value) {
  return [=](GgufParts& parts) {
    const auto at = std::ranges::find(parts.metadata, key, &GgufKeyValue::key);
    if (at == parts.metadata.end() || at->value.index() != value.index() || at->value == value)
      throw std::runtime_error(key + " is not there, has another type or this very value");
    at->value = value;
  };
}

/// The data of every tensor whose name ends with `suffix`, all of them F32.
void for_each_tensor(GgufParts& parts, std::string_view suffix,
                     const std::function<void(const GgufTensorSpec&, std::span<float>)>& change) {
  std::size_t changed = 0;
  for (std::size_t i = 0; i < parts.tensors.size(); ++i) {
    if (!parts.tensors[i].name.ends_with(suffix)) continue;
    if (parts.tensors[i].type != find_gguf_type("F32")->id) throw std::runtime_error(parts.tensors[i].name);
    std::vector<float> values(parts.data[i].size() / sizeof(float));
    std::memcpy(values.data(), parts.data[i].data(), parts.data[i].size());
    change(parts.tensors[i], values);
    std::memcpy(parts.data[i].data(), values.data(), parts.data[i].size());
    ++changed;
  }
  if (changed == 0) throw std::runtime_error("no tensors " + std::string(suffix));
}

/// Rows of q in another order. back: from that of files whose runtime rotates neighbours to that of checkpoints;
/// otherwise the other way.
std::function<void(GgufParts&)> reorder_q(std::size_t heads, bool back) {
  return [=](GgufParts& parts) {
    for_each_tensor(parts, "attn_q.weight", [&](const GgufTensorSpec& spec, std::span<float> values) {
      const std::vector<float> stored(values.begin(), values.end());
      const std::size_t cols = spec.dims[0];
      const std::vector<std::size_t> order = gguf_row_order(spec.dims[1], heads);
      for (std::size_t g = 0; g < order.size(); ++g) {
        const std::size_t from = back ? g : order[g], to = back ? order[g] : g;
        std::ranges::copy(std::span(stored).subspan(from * cols, cols),
                          values.begin() + static_cast<std::ptrdiff_t>(to * cols));
      }
    });
  };
}

std::function<void(GgufParts&)> add_to(std::string_view suffix, float value) {
  return [=](GgufParts& parts) {
    for_each_tensor(parts, suffix, [&](const GgufTensorSpec&, std::span<float> values) {
      for (float& v : values) v += value;
    });
  };
}

/// Rows of matrices the other way round.
std::function<void(GgufParts&)> reverse_rows(std::string_view suffix) {
  return [=](GgufParts& parts) {
    for_each_tensor(parts, suffix, [](const GgufTensorSpec& spec, std::span<float> values) {
      const std::size_t cols = spec.dims[0], rows = spec.dims[1];
      for (std::size_t r = 0; r < rows / 2; ++r)
        std::ranges::swap_ranges(values.subspan(r * cols, cols), values.subspan((rows - 1 - r) * cols, cols));
    });
  };
}

/// The upper half of the rows of matrices and the lower one change places.
std::function<void(GgufParts&)> swap_halves(std::string_view suffix) {
  return [=](GgufParts& parts) {
    for_each_tensor(parts, suffix, [](const GgufTensorSpec&, std::span<float> values) {
      std::ranges::swap_ranges(values.first(values.size() / 2), values.subspan(values.size() / 2));
    });
  };
}

/// The first two experts of stacks change places.
std::function<void(GgufParts&)> swap_experts(std::string_view suffix) {
  return [=](GgufParts& parts) {
    for_each_tensor(parts, suffix, [](const GgufTensorSpec& spec, std::span<float> values) {
      const std::size_t size = spec.dims[0] * spec.dims[1];
      std::ranges::swap_ranges(values.first(size), values.subspan(size, size));
    });
  };
}

std::function<void(GgufParts&)> negate(std::string_view suffix) {
  return [=](GgufParts& parts) {
    for_each_tensor(parts, suffix, [](const GgufTensorSpec&, std::span<float> values) {
      for (float& v : values) v = -v;
    });
  };
}

/// Tensors of one name get the data of those of another, in every block.
std::function<void(GgufParts&)> swap_tensors(const std::string& one, const std::string& other) {
  return [=](GgufParts& parts) {
    std::size_t swapped = 0;
    for (std::size_t i = 0; i < parts.tensors.size(); ++i) {
      const std::string& name = parts.tensors[i].name;
      if (!name.ends_with(one)) continue;
      std::swap(parts.data[i], parts.data.at(parts.index(name.substr(0, name.size() - one.size()) + other)));
      ++swapped;
    }
    if (swapped == 0) throw std::runtime_error("no tensors " + one);
  };
}

/// What can be wrong with the experts of any file.
void add_broken_mixture(std::string_view family, const std::string& gguf_name, std::uint32_t wrong_used,
                        std::vector<BrokenFile>& files) {
  files.push_back({family, "experts per token", set(gguf_name + ".expert_used_count", wrong_used)});
  files.push_back({family, "rows of the router reversed", reverse_rows("ffn_gate_inp.weight")});
  files.push_back({family, "two experts swapped in the stack of up", swap_experts("ffn_up_exps.weight")});
  files.push_back({family, "two experts swapped in the stack of down", swap_experts("ffn_down_exps.weight")});
  files.push_back({family, "gate and up swapped", swap_tensors("ffn_gate_exps.weight", "ffn_up_exps.weight")});
}

std::vector<BrokenFile> broken_files() {
  std::vector<BrokenFile> files = {
      {"llama", "rope_theta", set("llama.rope.freq_base", 20000.0f)},
      {"llama", "rows of q as in the checkpoint", reorder_q(4, true)},
      {"llama_llama3_rope", "divisors", add_to(kGgufRopeDivisors, 0.5f)},
      {"llama_linear_rope", "factor", set("llama.rope.scaling.factor", 3.0f)},
      {"llama_yarn_rope", "linear", set("llama.rope.scaling.type", std::string("linear"))},
      {"llama_yarn_rope", "factor", set("llama.rope.scaling.factor", 2.0f)},
      {"llama_yarn_rope", "context", set("llama.rope.scaling.original_context_length", std::uint32_t{256})},
      {"qwen2", "rope_theta", set("qwen2.rope.freq_base", 10000.0f)},
      {"qwen2", "no bias of q",
       [](GgufParts& parts) {
         for_each_tensor(parts, "attn_q.bias",
                         [](const GgufTensorSpec&, std::span<float> values) { std::ranges::fill(values, 0.0f); });
       }},
      {"qwen2", "rows of q reordered", reorder_q(4, false)},
      {"qwen3", "rope_theta", set("qwen3.rope.freq_base", 10000.0f)},
      {"qwen3", "rows of q reordered", reorder_q(4, false)},
      {"gemma", "norms as in the checkpoint", add_to("norm.weight", -1.0f)},
      {"gemma2", "cap of scores", set("gemma2.attn_logit_softcapping", 50.0f)},
      {"gemma2", "cap of logits", set("gemma2.final_logit_softcapping", 1000.0f)},
      {"gemma2", "window", set("gemma2.attention.sliding_window", std::uint32_t{15})},
      {"gemma2", "norms as in the checkpoint", add_to("norm.weight", -1.0f)},
      {"gemma3", "rope_theta", set("gemma3.rope.freq_base", 100000.0f)},
      {"gemma3", "factor", set("gemma3.rope.scaling.factor", 1.0f)},
      {"gemma3", "window", set("gemma3.attention.sliding_window", std::uint32_t{15})},
      {"gemma3", "norms of queries as in the checkpoint", add_to("attn_q_norm.weight", -1.0f)},
      {"phi3_partial", "rope_theta", set("phi3.rope.freq_base", 20000.0f)},
      {"phi3_partial", "rotated whole", set("phi3.rope.dimension_count", std::uint32_t{16})},
      {"phi3_partial", "another part", set("phi3.rope.dimension_count", std::uint32_t{10})},
      {"phi3_partial", "rows of q, k and v the other way round", reverse_rows("attn_qkv.weight")},
      {"phi3_partial", "up before gate", swap_halves("ffn_up.weight")},
      {"phi4_mini", "long factors", add_to(kGgufLongDivisors, 0.5f)},
      {"phi4_mini", "attention factor", set("phi3.rope.scaling.attn_factor", 1.0f)},
      {"phi4_mini", "context", set("phi3.rope.scaling.original_context_length", std::uint32_t{1024})},
      {"olmo2", "rope_theta", set("olmo2.rope.freq_base", 10000.0f)},
      {"olmo2", "rows of q reordered", reorder_q(4, false)},
      {"mixtral", "rope_theta", set("llama.rope.freq_base", 20000.0f)},
      {"mixtral", "rows of q as in the checkpoint", reorder_q(4, true)},
      {"qwen3_moe", "rope_theta", set("qwen3moe.rope.freq_base", 10000.0f)},
      {"qwen3_moe", "rows of q reordered", reorder_q(4, false)},
      {"olmoe", "rope_theta", set("olmoe.rope.freq_base", 20000.0f)},
      {"olmoe", "rows of q reordered", reorder_q(4, false)},
      {"qwen2_moe", "rope_theta", set("qwen2moe.rope.freq_base", 10000.0f)},
      {"qwen2_moe", "rows of q reordered", reorder_q(4, false)},
      {"qwen2_moe", "gate of the shared expert negated", negate("ffn_gate_inp_shexp.weight")},
      {"qwen2_moe", "gate and up of the shared expert swapped",
       swap_tensors("ffn_gate_shexp.weight", "ffn_up_shexp.weight")},
  };
  for (const std::string_view family : {"gpt2", "gpt2_untied"}) {
    files.push_back({family, "rows of q, k and v the other way round", reverse_rows("attn_qkv.weight")});
    files.push_back({family, "positions the other way round", reverse_rows("position_embd.weight")});
    files.push_back({family, "norms with other biases", add_to("attn_norm.bias", 0.5f)});
    files.push_back({family, "epsilon", set("gpt2.attention.layer_norm_epsilon", 1.0f)});
  }
  add_broken_mixture("mixtral", "llama", 3, files);
  add_broken_mixture("qwen3_moe", "qwen3moe", 3, files);
  add_broken_mixture("olmoe", "olmoe", 2, files);
  add_broken_mixture("qwen2_moe", "qwen2moe", 3, files);
  return files;
}

/// As llama.cpp's converter makes them of Phi-3: we would write `llama`.
TEST(Phi3AsGguf, IsReadWhereItsHeadsAreRotatedWhole) {
  const TempFolder folder;
  nlohmann::json config = family_case("phi3_partial").config;
  const fs::path checkpoint = write_random_checkpoint(folder / "checkpoint", config, kSeed);
  export_checkpoint(checkpoint, folder / "part.gguf");
  GgufParts parts = parts_of(GgufFile(folder / "part.gguf"));
  set("phi3.rope.dimension_count", std::uint32_t{16})(parts);
  const fs::path whole = parts.write(folder);
  config.erase("partial_rotary_factor");
  const auto meant = open_checkpoint_model(copy_checkpoint(checkpoint, folder / "whole", config));
  const auto read = std::make_shared<GgufWeights>(whole);
  EXPECT_EQ(read->architecture().rotary_dim, 0u);
  EXPECT_EQ(read->layout().gguf_name, "phi3");
  const Windows windows = one_window(kTokens);
  const MatrixF logits = our_logits(*meant, windows);
  EXPECT_LT(largest_difference(our_logits(*read, windows), logits), 1e-5 * range_of(logits));
  const CheckpointWeights as_source(read->architecture(), std::make_shared<GgufSource>(read));
  EXPECT_LT(largest_difference(our_logits(as_source, windows), logits), 1e-5 * range_of(logits));
}

TEST(Phi3AsGguf, IsRefusedWhereKeysAndTensorsDoNotFit) {
  struct Bad {
    std::string_view words;
    std::function<void(GgufParts&)> spoil;
  };
  const TempFolder folder;
  export_checkpoint(write_random_checkpoint(folder / "checkpoint", family_case("phi4_mini").config, kSeed),
                    folder / "true.gguf");
  const GgufFile file(folder / "true.gguf");
  const auto drop = [](const char* name) { return [=](GgufParts& parts) { parts.drop_tensor(name); }; };
  const std::vector<Bad> cases = {
      {"no 'rope_factors_long.weight'", drop("rope_factors_long.weight")},
      {"8 pairs of a head", set("phi3.rope.dimension_count", std::uint32_t{16})},
      {"13 of 16 elements of a head, which is odd", set("phi3.rope.dimension_count", std::uint32_t{13})},
      {"18 rotated elements of heads of 16", set("phi3.rope.dimension_count", std::uint32_t{18})},
      {"dimension_count is 0", set("phi3.rope.dimension_count", std::uint32_t{0})},
      {"blk.1.attn_qkv.weight", drop("blk.1.attn_qkv.weight")},
      {"blk.2.ffn_up.weight", drop("blk.2.ffn_up.weight")},
      {"attention_factor", set("phi3.rope.scaling.attn_factor", 0.0f)},
      {"'blk.0.ffn_gate.weight' is not part of the architecture",
       [](GgufParts& parts) {
         parts.add("blk.0.ffn_gate.weight", {64, 96}, std::vector<float>(64 * 96));
       }},
  };
  for (const Bad& bad : cases) {
    SCOPED_TRACE(bad.words);
    GgufParts parts = parts_of(file);
    bad.spoil(parts);
    expect_error(ErrorKind::bad_data, bad.words, [&] { GgufWeights model(parts.write(folder)); });
  }
}

/// A file of a mixture that must be refused, with words of the message.
struct BadMixture {
  std::string_view words;
  std::function<void(GgufParts&)> spoil;
};

TEST(MixturesAsGguf, AreRefusedWhereKeysAndTensorsDoNotFit) {
  const TempFolder folder;
  const fs::path checkpoint = write_random_checkpoint(folder / "checkpoint", family_case("qwen2_moe").config, kSeed);
  export_checkpoint(checkpoint, folder / "true.gguf");
  const GgufFile file(folder / "true.gguf");
  const auto drop = [](const char* name) { return [=](GgufParts& parts) { parts.drop_tensor(name); }; };
  const auto reverse_dims = [](const char* name) {
    return [=](GgufParts& parts) { std::ranges::reverse(parts.tensors[parts.index(name)].dims); };
  };
  const std::vector<BadMixture> cases = {
      {"expert", set("qwen2moe.expert_used_count", std::uint32_t{7})},
      {"expert", set("qwen2moe.expert_used_count", std::uint32_t{0})},
      {"expert", [](GgufParts& parts) { parts.drop_key("qwen2moe.expert_used_count"); }},
      {"blk.0.ffn_", set("qwen2moe.expert_count", std::uint32_t{5})},
      {"blk.0.ffn_", set("qwen2moe.expert_count", std::uint32_t{7})},
      {"expert", set("qwen2moe.expert_count", std::uint32_t{0xFFFFFFFF})},
      {"blk.0.ffn_gate_exps.weight", set("qwen2moe.expert_feed_forward_length", std::uint32_t{64})},
      {"blk.0.ffn_gate_shexp.weight", set("qwen2moe.expert_shared_feed_forward_length", std::uint32_t{64})},
      {"blk.1.ffn_gate_inp.weight", drop("blk.1.ffn_gate_inp.weight")},
      {"blk.1.ffn_up_exps.weight", drop("blk.1.ffn_up_exps.weight")},
      {"blk.2.ffn_down_exps.weight", drop("blk.2.ffn_down_exps.weight")},
      {"blk.2.ffn_gate_inp_shexp.weight", drop("blk.2.ffn_gate_inp_shexp.weight")},
      {"blk.1.ffn_gate_inp.weight", reverse_dims("blk.1.ffn_gate_inp.weight")},
      {"blk.1.ffn_down_exps.weight", reverse_dims("blk.1.ffn_down_exps.weight")},
      {"blk.0.ffn_gate.weight",
       [](GgufParts& parts) {
         parts.add("blk.0.ffn_gate.weight", {64, 96}, std::vector<float>(64 * 96));
       }},
  };
  for (const BadMixture& bad : cases) {
    SCOPED_TRACE(bad.words);
    GgufParts parts = parts_of(file);
    bad.spoil(parts);
    expect_error(ErrorKind::bad_data, bad.words, [&] { GgufWeights model(parts.write(folder)); });
  }
}

/// A file of GPT-2 that must be refused, with words of the message.
TEST(Gpt2AsGguf, IsRefusedWhereKeysAndTensorsDoNotFit) {
  struct Bad {
    std::string_view words;
    std::function<void(GgufParts&)> spoil;
  };
  const TempFolder folder;
  const fs::path checkpoint = write_random_checkpoint(folder / "checkpoint", family_case("gpt2").config, kSeed);
  export_checkpoint(checkpoint, folder / "true.gguf");
  const GgufFile file(folder / "true.gguf");
  const auto drop = [](const char* name) { return [=](GgufParts& parts) { parts.drop_tensor(name); }; };
  const std::vector<Bad> cases = {
      {"position_embd.weight", drop("position_embd.weight")},
      {"position_embd.weight", set("gpt2.context_length", std::uint32_t{255})},
      {"blk.1.attn_qkv.weight", drop("blk.1.attn_qkv.weight")},
      {"blk.2.attn_norm.bias", drop("blk.2.attn_norm.bias")},
      {"output_norm.bias", drop("output_norm.bias")},
      {"biases", drop("blk.0.ffn_up.bias")},
      {"epsilon", set("gpt2.attention.layer_norm_epsilon", 1e-6f)},
      {"num_attention_heads 3 is not a multiple", set("gpt2.attention.head_count", std::uint32_t{3})},
      {"layer_norm_epsilon", [](GgufParts& parts) { parts.drop_key("gpt2.attention.layer_norm_epsilon"); }},
  };
  for (const Bad& bad : cases) {
    SCOPED_TRACE(bad.words);
    GgufParts parts = parts_of(file);
    bad.spoil(parts);
    expect_error(ErrorKind::bad_data, bad.words, [&] { GgufWeights model(parts.write(folder)); });
  }
}

TEST_P(EveryFamilyInLlamaCpp, PredictsSomethingElseFromABrokenFile) {
  make(GetParam());
  const GgufFile file(folder / "true.gguf");
  for (const BrokenFile& broken : broken_files()) {
    if (broken.family != GetParam().name) continue;
    GgufParts parts = parts_of(file);
    broken.spoil(parts);
    parts.write(folder);  // model.gguf
    const Comparison found = compare_with_ours("model.gguf");
    std::printf("%s, wrong %s: %.2g\n", GetParam().name.c_str(), broken.what.c_str(), found.worst);
    EXPECT_GT(found.worst, kTolerance) << broken.what;
  }
}

}  // namespace
}  // namespace adze
