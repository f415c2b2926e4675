// Every family of decoders: our float32 pass against a plain one in double that shares no code with it, over random
// small checkpoints; that a wrong setting shows; that writing token by token computes the same.
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <stdexcept>

#include <gtest/gtest.h>

#include "base/file.h"
#include "checkpoint/checkpoint_testing.h"
#include "checkpoint/safetensors_folder.h"
#include "model/forward.h"
#include "model/logits.h"
#include "model/memory_source.h"
#include "model/plain_reference.h"
#include "model/random_checkpoint.h"
#include "model/unfused_source.h"

namespace adze {
namespace {

using namespace testing;
using Json = nlohmann::json;
namespace fs = std::filesystem;

constexpr std::uint64_t kSeed = 20;
constexpr std::size_t kTokens = 200;  // ten windows and more
// Of the range of the logits, which are some 30 from the smallest to the largest: float32 sums in another order.
constexpr double kRelativeTolerance = 2e-4;
constexpr double kVisible = 1e-2;  // of a log-probability; above what kRelativeTolerance lets pass

/// A case's checkpoint and what the reference makes of a text.
struct Prepared {
  explicit Prepared(const FamilyCase& family)
      : folder(write_random_checkpoint(temporary / family.name, family.config, kSeed)),
        ids(random_ids(kTokens, family.config.at("vocab_size").get<std::uint64_t>())),
        logits(reference_logits(folder, ids)),
        logs(log_probabilities(logits)) {}

  TempFolder temporary;
  fs::path folder;
  std::vector<std::int32_t> ids;
  MatrixD logits;
  MatrixD logs;
};

const Prepared& prepared(const FamilyCase& family) {
  static std::map<std::string, std::unique_ptr<Prepared>> all;
  std::unique_ptr<Prepared>& one = all[family.name];
  if (!one) one = std::make_unique<Prepared>(family);
  return *one;
}

class Families : public ::testing::TestWithParam<FamilyCase> {};

TEST_P(Families, ComputeWhatTheirDefinitionSays) {
  const Prepared& reference = prepared(GetParam());
  const MatrixF ours = logits_of(*open_checkpoint_model(reference.folder), reference.ids);
  const double worst = largest_difference(ours, reference.logits) / range_of(reference.logits);
  RecordProperty("worst", std::to_string(worst));
  std::printf("%s: largest difference %.2g of the range of %.3g\n", GetParam().name.c_str(), worst,
              range_of(reference.logits));
  EXPECT_LT(worst, kRelativeTolerance);
}

TEST_P(Families, HaveTestModelsThatPredictSomething) {
  const double entropy = mean_entropy(prepared(GetParam()).logs);
  EXPECT_LT(entropy, 3.0);
  EXPECT_GT(entropy, 1.0) << "with one sure token at each place, the others would not be seen";
}

/// Logits of a pass that gets one token at a time, with a cache for each block.
MatrixF stepped_logits_of(const ModelWeights& model, std::span<const std::int32_t> ids) {
  const Architecture& a = model.architecture();
  const Forward forward(a, ids.size());
  const InputTables tables = input_tables(model);
  const TensorPtr head = model.head();
  std::vector<BlockWeights> blocks;
  std::vector<KeyValueCache> caches;
  for (std::size_t b = 0; b < a.layers; ++b) {
    blocks.push_back(model.block(b));
    caches.emplace_back(a, ids.size());
  }
  Workspace work;
  MatrixF logits(ids.size(), a.vocab);
  for (std::size_t t = 0; t < ids.size(); ++t) {
    MatrixF x(1, a.hidden);
    forward.embed(tables, ids.subspan(t, 1), {&t, 1}, x);
    for (std::size_t b = 0; b < a.layers; ++b) {
      KeyValueCache* const cache = &caches[b];
      forward.run_block_step(blocks[b], x, {&cache, 1}, work);
    }
    forward.final_norm(norm_of(model), x, x);
    forward.logits(*head, x, logits.view().row_range(t, 1), work);
  }
  return logits;
}

TEST_P(Families, ComputeTheSameTokenByToken) {
  const Prepared& reference = prepared(GetParam());
  const auto model = open_checkpoint_model(reference.folder);
  const MatrixD whole = log_probabilities(logits_of(*model, reference.ids));
  const MatrixD stepped = log_probabilities(stepped_logits_of(*model, reference.ids));
  EXPECT_LT(largest_difference(stepped, whole), kRelativeTolerance * range_of(reference.logits));
}

/// A setting that is wrong: `changes` replaces values of config.json (null is written as null), `removed` keys go.
struct Wrong {
  std::string_view family;
  std::string what;
  Json changes;
  std::vector<std::string> removed = {};
};

std::vector<Wrong> wrong_settings() {
  const Json llama3 = family_case("llama_llama3_rope").config.at("rope_scaling");
  const Json yarn = family_case("llama_yarn_rope").config.at("rope_scaling");
  const auto other = [](Json object, const char* key, const Json& value) {
    object[key] = value;
    return object;
  };
  Json types = Json::array();  // of gemma3_layer_types with layers 4 and 5 exchanged
  for (int i = 0; i < 7; ++i) types.push_back(i == 4 ? "full_attention" : "sliding_attention");
  const Json odd = Json::array({"full_attention", "sliding_attention", "full_attention"});
  const Json none = Json::object();
  return {
      {"llama", "rope_theta", {{"rope_theta", 20000.0}}},
      {"llama", "rms_norm_eps", {{"rms_norm_eps", 0.1}}},
      {"llama", "a scaling that is not there", {{"rope_scaling", yarn}}},
      {"llama_llama3_rope", "rope_theta", {{"rope_theta", 10000.0}}},
      {"llama_llama3_rope", "no scaling", {{"rope_scaling", nullptr}}},
      {"llama_llama3_rope", "factor", {{"rope_scaling", other(llama3, "factor", 4.0)}}},
      {"llama_llama3_rope", "low", {{"rope_scaling", other(llama3, "low_freq_factor", 1.5)}}},
      {"llama_llama3_rope", "high", {{"rope_scaling", other(llama3, "high_freq_factor", 8.0)}}},
      {"llama_llama3_rope", "context", {{"rope_scaling", other(llama3, "original_max_position_embeddings", 128)}}},
      {"llama_linear_rope", "no scaling", none, {"rope_scaling"}},
      {"llama_linear_rope", "factor", {{"rope_scaling", Json{{"factor", 3.0}, {"type", "linear"}}}}},
      {"llama_yarn_rope", "rope_theta", {{"rope_theta", 20000.0}}},
      {"llama_yarn_rope", "no scaling", {{"rope_scaling", nullptr}}},
      {"llama_yarn_rope", "linear", {{"rope_scaling", Json{{"factor", 4.0}, {"type", "linear"}}}}},
      {"llama_yarn_rope", "factor", {{"rope_scaling", other(yarn, "factor", 2.0)}}},
      {"llama_yarn_rope", "context", {{"rope_scaling", other(yarn, "original_max_position_embeddings", 256)}}},
      {"llama_yarn_rope", "beta_slow", {{"rope_scaling", other(yarn, "beta_slow", 4.0)}}},
      {"llama_yarn_rope", "attention_factor", {{"rope_scaling", other(yarn, "attention_factor", 1.0)}}},
      {"mistral", "rope_theta", {{"rope_theta", 20000.0}}},
      {"mistral", "window", {{"sliding_window", 19}}},
      {"mistral", "no window", {{"sliding_window", nullptr}}},
      {"qwen2", "rope_theta", {{"rope_theta", 10000.0}}},
      {"qwen2", "a window that is not in force", {{"use_sliding_window", true}}},
      {"qwen2_tied", "rope_theta", {{"rope_theta", 10000.0}}},
      {"qwen3", "rope_theta", {{"rope_theta", 10000.0}}},
      {"qwen3", "rms_norm_eps", {{"rms_norm_eps", 0.1}}},
      {"gemma", "rope_theta", {{"rope_theta", 20000.0}}},
      {"gemma2", "rope_theta", {{"rope_theta", 20000.0}}},
      {"gemma2", "window", {{"sliding_window", 15}}},
      {"gemma2", "no window", {{"sliding_window", nullptr}}},
      {"gemma2", "the other layers", {{"layer_types", odd}}},
      {"gemma2", "cap of scores", {{"attn_logit_softcapping", 20.0}}},
      {"gemma2", "no cap of scores", {{"attn_logit_softcapping", nullptr}}},
      {"gemma2", "cap of logits", {{"final_logit_softcapping", 40.0}}},
      {"gemma2", "no cap of logits", {{"final_logit_softcapping", nullptr}}},
      {"gemma2", "scale of scores", {{"query_pre_attn_scalar", 48}}},
      {"gemma3", "rope_theta", {{"rope_theta", 100000.0}}},
      {"gemma3", "local rope_theta", {{"rope_local_base_freq", 20000.0}}},
      {"gemma3", "no scaling", {{"rope_scaling", nullptr}}},
      {"gemma3", "window", {{"sliding_window", 15}}},
      {"gemma3", "no window", {{"sliding_window", nullptr}}},
      {"gemma3", "pattern", {{"sliding_window_pattern", 3}}},
      {"gemma3", "scale of scores", {{"query_pre_attn_scalar", 48}}},
      {"gemma3", "a cap of logits that is not there", {{"final_logit_softcapping", 30.0}}},
      {"gemma3_layer_types", "layer_types", {{"layer_types", types}}},
      {"gemma3_layer_types", "a pattern of 4", {{"sliding_window_pattern", 4}}, {"layer_types"}},
      {"phi3", "a window that is not there", {{"sliding_window", 20}}},
      {"phi3", "rope_theta", {{"rope_theta", 20000.0}}},
      {"phi3_longrope", "no scaling", {{"rope_scaling", nullptr}}},
      {"phi3_longrope", "the other factors", {{"original_max_position_embeddings", 255}}},
      {"phi3_longrope", "window", {{"sliding_window", 19}}},
      {"phi3_partial", "rotated whole", {{"partial_rotary_factor", 1.0}}},
      {"phi3_partial", "no word of the part", none, {"partial_rotary_factor"}},
      {"phi3_partial", "another part", {{"partial_rotary_factor", 0.625}}},
      {"phi3_partial", "rope_theta", {{"rope_theta", 20000.0}}},
      {"phi4_mini", "no scaling", {{"rope_scaling", nullptr}}},
      {"phi4_mini", "the other factors", {{"original_max_position_embeddings", 255}}},
      {"phi4_mini", "rope_theta", {{"rope_theta", 20000.0}}},
      {"phi4_mini", "window", {{"sliding_window", 19}}},
      {"olmo2", "rope_theta", {{"rope_theta", 10000.0}}},
      {"olmo2", "rms_norm_eps", {{"rms_norm_eps", 0.1}}},
      {"mixtral", "rope_theta", {{"rope_theta", 10000.0}}},
      {"mixtral", "an expert more", {{"num_experts_per_tok", 3}}},
      {"mixtral", "an expert fewer", {{"num_experts_per_tok", 1}}},
      {"mixtral", "a window that is not there", {{"sliding_window", 20}}},
      {"qwen3_moe", "rope_theta", {{"rope_theta", 10000.0}}},
      {"qwen3_moe", "an expert more", {{"num_experts_per_tok", 3}}},
      {"qwen3_moe", "an expert fewer", {{"num_experts_per_tok", 1}}},
      {"qwen3_moe", "weights that do not sum to 1", {{"norm_topk_prob", false}}},
      {"qwen3_moe", "no word of their sum", none, {"norm_topk_prob"}},
      {"qwen3_moe", "a window that is not there", {{"sliding_window", 20}, {"use_sliding_window", true}}},
      {"olmoe", "rope_theta", {{"rope_theta", 20000.0}}},
      {"olmoe", "rms_norm_eps", {{"rms_norm_eps", 0.1}}},
      {"olmoe", "an expert more", {{"num_experts_per_tok", 4}}},
      {"olmoe", "an expert fewer", {{"num_experts_per_tok", 2}}},
      {"olmoe", "weights that sum to 1", {{"norm_topk_prob", true}}},
      {"qwen2_moe", "rope_theta", {{"rope_theta", 10000.0}}},
      {"qwen2_moe", "an expert more", {{"num_experts_per_tok", 3}}},
      {"qwen2_moe", "an expert fewer", {{"num_experts_per_tok", 1}}},
      {"qwen2_moe", "weights that sum to 1", {{"norm_topk_prob", true}}},
      {"gpt2", "ReLU", {{"activation_function", "relu"}}},
      {"gpt2_untied", "ReLU", {{"activation_function", "relu"}}},
      {"opt", "GELU", {{"activation_function", "gelu_new"}}},
  };
}

TEST_P(Families, ComputeSomethingElseUnderAWrongSetting) {
  const Prepared& reference = prepared(GetParam());
  std::size_t tried = 0;
  for (const Wrong& wrong : wrong_settings()) {
    if (wrong.family != GetParam().name) continue;
    Json config = GetParam().config;
    config.update(wrong.changes);
    for (const std::string& key : wrong.removed) config.erase(key);
    ASSERT_NE(config, GetParam().config) << wrong.what;
    const TempFolder altered;
    copy_checkpoint(reference.folder, altered.path(), config);
    const MatrixD ours = log_probabilities(logits_of(*open_checkpoint_model(altered.path()), reference.ids));
    const double worst = largest_difference(ours, reference.logs);
    EXPECT_GT(worst, kVisible) << wrong.what;
    EXPECT_TRUE(std::isfinite(worst)) << wrong.what;
    ++tried;
  }
  EXPECT_GT(tried, 0u) << "no wrong setting is known for this case";
}

/// What the comparison would see of GPT-2 and OPT, beside settings.
TEST(LearnedPositions, AndNormsAreFarFromWhatMistakesWouldGive) {
  struct Case {
    std::string_view family;
    Mistake mistake;
    const char* what;
  };
  for (const Case& one :
       {Case{"gpt2", Mistake::positions_from_row_0, "positions from another row"},
        Case{"opt", Mistake::positions_from_row_0, "positions from another row"},
        Case{"gpt2", Mistake::no_positions, "no positions"}, Case{"opt", Mistake::no_positions, "no positions"},
        Case{"gpt2", Mistake::no_norm_bias, "norms without biases"},
        Case{"opt", Mistake::no_norm_bias, "norms without biases"},
        Case{"gpt2", Mistake::mean_kept, "norms that keep the mean"}, Case{"gpt2", Mistake::qkv_reversed, "v, k, q"},
        Case{"gpt2", Mistake::not_transposed, "a square product that is not transposed"}}) {
    const Prepared& reference = prepared(family_case(one.family));
    const MatrixD ours = log_probabilities(logits_of(*open_checkpoint_model(reference.folder), reference.ids));
    const MatrixD wrong = log_probabilities(reference_logits(reference.folder, reference.ids, one.mistake));
    EXPECT_GT(largest_difference(ours, wrong), kVisible) << one.family << ": " << one.what;
  }
}

/// What the comparison would see of heads that are rotated in part, beside settings.
TEST(PartialRotation, IsFarFromWhatMistakesWouldGive) {
  for (const char* const name : {"phi3_partial", "phi4_mini"}) {
    const Prepared& reference = prepared(family_case(name));
    const MatrixD ours = log_probabilities(logits_of(*open_checkpoint_model(reference.folder), reference.ids));
    for (const Mistake mistake :
         {Mistake::rotated_whole, Mistake::halves_of_the_head, Mistake::neighbours_turn, Mistake::last_elements_turn}) {
      const MatrixD wrong = log_probabilities(reference_logits(reference.folder, reference.ids, mistake));
      EXPECT_GT(largest_difference(ours, wrong), kVisible) << name << " " << static_cast<int>(mistake);
    }
  }
}

/// A config.json without them means what the family's configuration class says.
TEST(Defaults, OfEpsilonAndThetaAreThoseOfTheFamily) {
  for (const char* const name : {"llama", "phi3", "olmo2", "mixtral", "gemma3"}) {
    Json config = family_case(name).config;
    for (const char* const key : {"rms_norm_eps", "rope_theta"}) config.erase(key);
    const TempFolder folder;
    copy_checkpoint(prepared(family_case(name)).folder, folder.path(), config);
    const std::vector<std::int32_t>& ids = prepared(family_case(name)).ids;
    const MatrixD reference = reference_logits(folder.path(), ids);
    const MatrixF ours = logits_of(*open_checkpoint_model(folder.path()), ids);
    EXPECT_LT(largest_difference(ours, reference), kRelativeTolerance * range_of(reference)) << name;
  }
}

/// The two have other defaults, so that the text must say what the first meant.
TEST(Phi3Config, BecomesThatOfMistralWhichSaysTheSame) {
  for (const char* const name : {"phi3", "phi3_longrope", "phi4_mini"}) {
    Json config = family_case(name).config;
    config.erase("rms_norm_eps");
    const Json read = Json::parse(unfused_config(config.dump(), "config.json"));
    EXPECT_EQ(read["architectures"], Json::array({"MistralForCausalLM"}));
    EXPECT_EQ(parse_architecture(read, "config.json"), parse_architecture(config, "config.json")) << name;
  }
}

TEST(LearnedPositions, EndWhereNoneIsLearned) {
  const Prepared& reference = prepared(family_case("opt"));
  const auto model = open_checkpoint_model(reference.folder);
  const std::vector<std::int32_t> ids(257, 3);
  expect_error(ErrorKind::bad_data, "position 256 is none of the 256 that the model has learned",
               [&] { logits_of(*model, ids); });
}

/// As older files are: without "transformer." in front, and with buffers of the causal mask.
MemorySource without_prefix(const TensorSource& source) {
  MemorySource plain;
  for (const TensorInfo& tensor : source.tensors()) {
    std::vector<float> values(static_cast<std::size_t>(tensor.bytes) / sizeof(float));
    source.read(tensor, 0, std::as_writable_bytes(std::span(values)));
    const std::string prefix = "transformer.";
    const std::string name = tensor.name.starts_with(prefix) ? tensor.name.substr(prefix.size()) : tensor.name;
    plain.put(name, DType::f32, tensor.shape, values);
  }
  plain.put("h.0.attn.bias", DType::f32, {1, 1, 2, 2}, std::vector<float>{1, 0, 1, 1});
  plain.put("h.0.attn.masked_bias", DType::f32, {1}, std::vector<float>{-1e4f});
  return plain;
}

TEST(Gpt2Names, MayLackTheirPrefixAndHaveBuffers) {
  const Prepared& reference = prepared(family_case("gpt2"));
  const Architecture a = read_architecture(reference.folder);
  const auto plain = std::make_shared<MemorySource>(without_prefix(*open_checkpoint_folder(reference.folder)));
  const CheckpointWeights model(a, unfused_source(a, plain));
  EXPECT_EQ(largest_difference(logits_of(model, reference.ids),
                               logits_of(*open_checkpoint_model(reference.folder), reference.ids)),
            0);
}

TEST(Gpt2Names, AreTransposedInPiecesOfAnySize) {
  const Prepared& reference = prepared(family_case("gpt2"));
  const Architecture a = read_architecture(reference.folder);
  const std::shared_ptr<const TensorSource> stored = open_checkpoint_folder(reference.folder);
  const auto source = unfused_source(a, stored);
  const TensorInfo* const k = source->find("model.decoder.layers.1.self_attn.k_proj.weight");
  ASSERT_NE(k, nullptr);
  EXPECT_EQ(k->shape, (std::vector<std::uint64_t>{64, 64}));
  EXPECT_FALSE(source->place(*k));
  const TensorInfo& fused = *stored->find("transformer.h.1.attn.c_attn.weight");
  std::vector<float> all(64 * 192);
  stored->read(fused, 0, std::as_writable_bytes(std::span(all)));
  std::vector<float> whole(64 * 64);
  source->read(*k, 0, std::as_writable_bytes(std::span(whole)));
  for (std::size_t r = 0; r < 64; ++r)
    for (std::size_t c = 0; c < 64; ++c) ASSERT_EQ(whole[r * 64 + c], all[c * 192 + 64 + r]) << r << " " << c;
  std::vector<float> piece(100);
  source->read(*k, 33 * sizeof(float), std::as_writable_bytes(std::span(piece)));
  EXPECT_TRUE(std::ranges::equal(piece, std::span(whole).subspan(33, 100)));
  const TensorInfo* const positions = source->find("model.decoder.embed_positions.weight");
  ASSERT_NE(positions, nullptr);
  EXPECT_EQ(positions->shape, (std::vector<std::uint64_t>{258, 64}));
  std::vector<float> across(100);  // two rows of zeros, of which the last 28 values, and what follows
  source->read(*positions, 100 * sizeof(float), std::as_writable_bytes(std::span(across)));
  std::vector<float> first(72);
  stored->read(*stored->find("transformer.wpe.weight"), 0, std::as_writable_bytes(std::span(first)));
  EXPECT_TRUE(std::ranges::all_of(std::span(across).first(28), [](float v) { return v == 0; }));
  EXPECT_TRUE(std::ranges::equal(std::span(across).subspan(28), first));
}

TEST(Gpt2Names, AreRefusedWhereShapesOrNamesContradict) {
  const Prepared& reference = prepared(family_case("gpt2"));
  Json config = family_case("gpt2").config;
  config["n_inner"] = 128;
  const TempFolder folder;
  copy_checkpoint(reference.folder, folder / "narrow", config);
  expect_error(ErrorKind::bad_data, "'transformer.h.0.mlp.c_fc.bias' has shape [256], but config.json asks for [128]",
               [&] { open_checkpoint_model(folder / "narrow"); });
  const Architecture a = read_architecture(reference.folder);
  auto twice = std::make_shared<MemorySource>(without_prefix(*open_checkpoint_folder(reference.folder)));
  twice->put("transformer.ln_f.weight", DType::f32, {64}, std::vector<float>(64));
  expect_error(ErrorKind::bad_data, "'model.decoder.final_layer_norm.weight' is there twice",
               [&] { unfused_source(a, twice); });
  auto without = std::make_shared<MemorySource>(without_prefix(*open_checkpoint_folder(reference.folder)));
  without->remove("wpe.weight");
  expect_error(ErrorKind::bad_data, "'model.decoder.embed_positions.weight' is missing",
               [&] { CheckpointWeights(a, unfused_source(a, without)); });
}

TEST(LearnedPositions, AreRefusedInSettingsThatAreNotSupported) {
  struct Refused {
    std::string_view family;
    Json changes;
    std::string_view words;
  };
  const std::vector<Refused> all = {
      {"opt", {{"do_layer_norm_before", false}}, "do_layer_norm_before false is not supported"},
      {"opt", {{"enable_bias", false}}, "enable_bias false is not supported"},
      {"opt", {{"layer_norm_elementwise_affine", false}}, "layer_norm_elementwise_affine false is not supported"},
      {"opt", {{"word_embed_proj_dim", 32}}, "word_embed_proj_dim 32 is not supported, only 64"},
      {"opt", {{"activation_function", "gelu"}}, "activation_function 'gelu' is not supported"},
      {"opt", {{"num_attention_heads", 5}}, "hidden_size 64 is not a multiple of num_attention_heads 5"},
      {"opt", {{"max_position_embeddings", 100000000}}, "too many positions"},
      {"opt", {{"ffn_dim", nullptr}}, "ffn_dim"},
      {"gpt2", {{"activation_function", "tanh"}}, "activation_function 'tanh' is not supported"},
      {"gpt2", {{"scale_attn_weights", false}}, "scale_attn_weights false is not supported"},
      {"gpt2", {{"scale_attn_by_inverse_layer_idx", true}}, "scale_attn_by_inverse_layer_idx true is not supported"},
      {"gpt2", {{"add_cross_attention", true}}, "add_cross_attention true is not supported"},
      {"gpt2", {{"layer_norm_epsilon", 1e-6}}, "an epsilon of norms of 1e-06 is not supported"},
      {"gpt2", {{"n_head", 3}}, "n_embd 64 is not a multiple of n_head 3"},
      {"gpt2", {{"n_embd", 0}}, "n_embd"},
      {"gpt2", {{"n_inner", "wide"}}, "n_inner"}};
  for (const Refused& wrong : all) {
    Json config = family_case(wrong.family).config;
    config.update(wrong.changes);
    expect_error(ErrorKind::bad_data, wrong.words, [&] { parse_architecture(config, "config.json"); });
  }
}

TEST(Gpt2Config, BecomesThatOfOptWhichSaysTheSame) {
  const Json config = family_case("gpt2_untied").config;
  const Json read = Json::parse(unfused_config(config.dump(), "config.json"));
  EXPECT_EQ(read["architectures"], Json::array({"OPTForCausalLM"}));
  EXPECT_EQ(read["ffn_dim"], 96);
  EXPECT_EQ(read["max_position_embeddings"], 256);
  EXPECT_EQ(read["word_embed_proj_dim"], 64);
  EXPECT_EQ(read["do_layer_norm_before"], true);
  for (const char* const key : {"n_embd", "n_head", "n_inner", "n_layer", "n_positions", "layer_norm_epsilon"})
    EXPECT_FALSE(read.contains(key)) << key;
  EXPECT_EQ(parse_architecture(read, "config.json"), parse_architecture(config, "config.json"));
}

TEST(FusedMatrices, AreReadApartAndRefusedWhereTheirHeightIsAnother) {
  const TempFolder folder;
  Json config = family_case("phi3").config;
  write_random_checkpoint(folder / "model", config, kSeed);
  const auto model = open_checkpoint_model(folder / "model");
  EXPECT_EQ(model->architecture().family, "MistralForCausalLM");
  EXPECT_EQ(model->block(1)[LinearSlot::up].weight->shape(), (Shape{96, 64}));
  config["num_key_value_heads"] = 4;
  copy_checkpoint(folder / "model", folder / "other", config);
  expect_error(ErrorKind::bad_data,
               "'model.layers.0.self_attn.qkv_proj.weight' has shape [128, 64], but config.json asks for [192, 64]",
               [&] { open_checkpoint_model(folder / "other"); });
}

/// The experts of every block in two tensors, as Transformers 5 has them in memory.
MemorySource with_fused_experts(const MemorySource& apart, const Architecture& a) {
  MemorySource fused = apart;
  for (std::size_t block = 0; block < a.layers; ++block) {
    std::vector<float> gate_up, down;
    for (std::size_t e = 0; e < a.experts; ++e)
      for (const LinearSlot::Kind kind : {LinearSlot::gate, LinearSlot::up, LinearSlot::down}) {
        const std::string name = fmt::format("model.{}.weight", module_name(a, block, LinearSlot(kind, e)));
        const std::vector<float> values = apart.values(name);
        std::vector<float>& into = kind == LinearSlot::down ? down : gate_up;
        into.insert(into.end(), values.begin(), values.end());
        fused.remove(name);
      }
    const std::string experts = fmt::format("model.layers.{}.{}.", block, a.info().mixture.experts);
    fused.put(experts + "gate_up_proj", DType::f32, {a.experts, 2 * a.expert_ffn, a.hidden}, gate_up);
    fused.put(experts + "down_proj", DType::f32, {a.experts, a.hidden, a.expert_ffn}, down);
  }
  return fused;
}

TEST(FusedMatrices, OfExpertsAreReadApart) {
  const Architecture a = random_model(mixture_architecture()).architecture();
  const MemorySource apart = random_source(a);
  const CheckpointWeights meant(a, std::make_shared<MemorySource>(apart));
  const CheckpointWeights read(a, unfused_source(a, std::make_shared<MemorySource>(with_fused_experts(apart, a))));
  for (std::size_t block = 0; block < a.layers; ++block) {
    const BlockWeights left = read.block(block), right = meant.block(block);
    for (const LinearInfo& info : block_linears(a))
      EXPECT_TRUE(left[info.slot].weight->decode() == right[info.slot].weight->decode()) << info.module;
  }
}

TEST(FusedMatrices, OfExpertsOfAnotherSizeOrOrderAreRefused) {
  const Architecture a = random_model(mixture_architecture()).architecture();
  auto source = std::make_shared<MemorySource>(with_fused_experts(random_source(a), a));
  const std::string name = "model.layers.1.mlp.experts.down_proj";
  const std::vector<float> values = source->values(name);
  source->remove(name);
  source->put(name, DType::f32, {a.experts, a.expert_ffn, a.hidden}, values);  // the other way round
  expect_error(ErrorKind::bad_data,
               "'model.layers.1.mlp.experts.down_proj' has shape [6, 20, 24], but config.json asks for [6, 24, 20]",
               [&] { unfused_source(a, source); });
}

TEST(FusedMatrices, AreRefusedBesideTheirParts) {
  const Architecture a = random_model(small_architecture()).architecture();
  auto source = std::make_shared<MemorySource>(random_source(a));
  source->put("model.layers.0.mlp.gate_up_proj.weight", DType::f32, {2 * a.ffn, a.hidden},
              std::vector<float>(2 * a.ffn * a.hidden));
  expect_error(ErrorKind::bad_data, "'model.layers.0.mlp.gate_proj.weight' is there twice, alone and in a fused tensor",
               [&] { unfused_source(a, source); });
}

INSTANTIATE_TEST_SUITE_P(Models, Families, ::testing::ValuesIn(family_cases()),
                         [](const auto& case_info) { return case_info.param.name; });

// The reference itself, against PyTorch's logits of a trained model.
TEST(PlainReference, GivesTheGoldenLogitsOfTheDemo) {
  const fs::path root = ADZE_SOURCE_DIR;
  const Json golden = Json::parse(read_file(root / "tests/model/golden/demo_llama_logits.json"));
  const auto ids = golden.at("ids").get<std::vector<std::int32_t>>();
  const MatrixD logits = reference_logits(root / "tests/models/demo-llama", ids);
  const auto stride = golden.at("stride").get<std::size_t>();
  for (const Json& expected : golden.at("rows")) {
    const auto row = expected.at("position").get<std::size_t>();
    const auto values = expected.at("logits").get<std::vector<double>>();
    ASSERT_EQ(values.size() * stride, logits.cols());
    for (std::size_t i = 0; i < values.size(); ++i) ASSERT_NEAR(logits(row, i * stride), values[i], 2e-4) << row;
  }
}

TEST(PlainReference, RefusesTensorsThatItDoesNotUse) {
  const Prepared& qwen3 = prepared(family_case("qwen3"));
  const TempFolder altered;
  Json config = family_case("qwen3").config;
  config["model_type"] = "llama";
  copy_checkpoint(qwen3.folder, altered.path(), config);
  EXPECT_THROW(reference_logits(altered.path(), qwen3.ids), std::runtime_error);
}

TEST(RandomCheckpoint, IsTheSameForTheSameSeed) {
  const FamilyCase family = family_case("gemma");
  const TempFolder folder;
  const auto weights = [&](const char* name, std::uint64_t seed) {
    return read_file(write_random_checkpoint(folder / name, family.config, seed) / "model.safetensors");
  };
  const std::string first = weights("first", 1);
  EXPECT_EQ(weights("second", 1), first);
  EXPECT_NE(weights("third", 2), first);
}

}  // namespace
}  // namespace adze
