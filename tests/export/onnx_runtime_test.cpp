// Proof in a real runtime: onnxruntime (through tests/node/onnx.mjs) computes from what we export what our forward pass
// computes from the same weights. Skipped, with the reason, where Node.js or its packages are missing.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "export/llama_cpp.h"
#include "export/onnx/decoder_graph.h"
#include "model/random_checkpoint.h"
#include "model/rope_config.h"

namespace adze {
namespace {

using namespace testing;
namespace fs = std::filesystem;

struct Difference {
  double largest = 0;
  double scale = 0;  ///< largest logit
};

class OnnxRuntime : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string reason = missing_package("onnxruntime-node"); !reason.empty()) GTEST_SKIP() << reason;
  }

  /// config.json of an architecture, as much as exporters look at.
  static std::vector<StoreFile> files_of(const Architecture& a) {
    nlohmann::ordered_json config{
        {"architectures", {a.family}},   {"hidden_size", a.hidden},        {"intermediate_size", a.ffn},
        {"num_hidden_layers", a.layers}, {"num_attention_heads", a.heads}, {"num_key_value_heads", a.kv_heads},
        {"head_dim", a.head_dim},        {"vocab_size", a.vocab},          {"max_position_embeddings", a.max_positions},
        {"rms_norm_eps", a.norm_eps},    {"rope_theta", a.rope.theta},     {"tie_word_embeddings", a.tied},
        {"attention_bias", a.qkv_bias},  {"mlp_bias", a.mlp_bias}};
    if (a.sliding_window > 0) config["sliding_window"] = a.sliding_window;
    if (a.rotary_dim > 0)
      config["partial_rotary_factor"] = static_cast<double>(a.rotary_dim) / static_cast<double>(a.head_dim);
    if (const auto scaling = rope_scaling(a); !scaling.is_null()) config["rope_scaling"] = scaling;
    if (a.is_mixture())
      config.update({{"num_experts", a.experts},
                     {"num_experts_per_tok", a.experts_per_token},
                     {"moe_intermediate_size", a.expert_ffn},
                     {"norm_topk_prob", a.renormalised}});
    return {{"config.json", config.dump()}};
  }

  void write(const std::string& exporter, const ModelWeights& model) const {
    const std::vector<StoreFile> files = files_of(model.architecture());
    const ExportPlan plan{model.architecture(),   planned_tensors(model), nullptr, files, "test",
                          {{"adze.version", "1"}}};
    find_exporter(exporter)->make()->write(plan, model, folder / exporter, silent_progress());
  }

  /// Logits of all windows, one matrix for each way (options of onnx.mjs).
  std::vector<MatrixF> logits(const std::string& exporter, const Windows& windows,
                              const std::vector<std::string>& ways) const {
    folder.put("ids.json", nlohmann::json(windows).dump());
    const fs::path log = folder / "stderr.txt";
    std::string command = node_program() + " " + quoted(node_folder() / "onnx.mjs") + " " +
                          quoted(folder / exporter / "model.onnx") + " " + quoted(folder / "ids.json") + " " +
                          quoted(folder / "out.f32");
    for (const std::string& way : ways) command += " '" + way + "'";
    const auto out = output_of(command + " 2>" + quoted(log));
    if (!out) throw std::runtime_error("onnx.mjs failed: " + read_file(log));
    std::size_t rows = 0;
    for (const auto& ids : windows) rows += ids.size();
    const auto vocabulary = nlohmann::json::parse(*out)["vocabulary"].get<std::size_t>();
    const std::string bytes = read_file(folder / "out.f32");
    const std::size_t size = rows * vocabulary * sizeof(float);
    if (bytes.size() != ways.size() * size) throw std::runtime_error("out.f32 has another size");
    std::vector<MatrixF> all;
    for (std::size_t way = 0; way < ways.size(); ++way) {
      all.emplace_back(rows, vocabulary);
      std::memcpy(all.back().data(), bytes.data() + way * size, size);
    }
    return all;
  }

  static Difference difference(const MatrixF& left, const MatrixF& right) {
    EXPECT_EQ(left.shape(), right.shape());
    Difference result;
    for (std::size_t i = 0; i < right.values().size(); ++i) {
      const double apart = std::fabs(double{left.values()[i]} - double{right.values()[i]});
      result.largest = std::max(result.largest, std::isnan(apart) ? HUGE_VAL : apart);
      result.scale = std::max(result.scale, std::fabs(double{right.values()[i]}));
    }
    return result;
  }

  void expect_close(const std::string& exporter, const ModelWeights& model, const MatrixF& ours,
                    const std::vector<std::string>& ways) const;

  TempFolder folder;
  mutable double largest_seen = 0;
};

/// 16 elements a head, grouped queries.
Architecture small() {
  Architecture a;
  a.hidden = 96;
  a.ffn = 160;
  a.layers = 2;
  a.heads = 6;
  a.kv_heads = 2;
  a.head_dim = 16;
  a.vocab = 70;
  a.max_positions = 64;
  a.norm_eps = 1e-5;
  return a;
}

Windows small_windows() {
  Windows windows;
  for (std::size_t length : {1, 7, 24}) {
    std::vector<std::int32_t> ids;
    for (std::size_t i = 0; i < length; ++i) ids.push_back(static_cast<std::int32_t>((i * i * 13 + length * 5) % 70));
    windows.push_back(ids);
  }
  return windows;
}

constexpr double kClose = 1e-3;
/// Without it onnxruntime rounds activations to 8 bits where it fuses a DequantizeLinear with a MatMul.
constexpr const char* kFloatActivations = "session.qdq_matmulnbits_accuracy_level=0";

std::string option_words(const std::string& more) { return std::string(kFloatActivations) + " " + more; }

/// Every way to run `exporter`'s file against `ours`.
void OnnxRuntime::expect_close(const std::string& exporter, const ModelWeights& model, const MatrixF& ours,
                               const std::vector<std::string>& ways) const {
  write(exporter, model);
  std::vector<std::string> all;
  for (const std::string& way : ways) all.push_back(option_words(way));
  const std::vector<MatrixF> theirs = logits(exporter, small_windows(), all);
  for (std::size_t way = 0; way < ways.size(); ++way) {
    const Difference apart = difference(theirs[way], ours);
    EXPECT_LT(apart.largest, kClose) << exporter << " " << ways[way];
    EXPECT_GT(apart.scale, 0.5) << "logits that say nothing";
    largest_seen = std::max(largest_seen, apart.largest);
  }
}

struct Case {
  std::string format;  ///< of the linears
  std::string tables = "f16";
};

class OnnxGrids : public OnnxRuntime, public ::testing::WithParamInterface<Case> {};

TEST_P(OnnxGrids, ComputeWhatOurForwardPassComputes) {
  const CheckpointWeights base = random_model(small());
  const FormattedModel model(base, [&](const TensorSpec& spec) {
    return spec.role == TensorRole::embedding ? GetParam().tables : GetParam().format;
  });
  const MatrixF ours = our_logits(model, small_windows());
  expect_close("onnx", model, ours, {"", "optimize=disabled", "chunk=1"});
  if (dtype_from_name(GetParam().tables)) expect_close("onnx-qdq", model, ours, {"", "optimize=disabled"});
  std::printf("%s: largest difference %.3g\n", GetParam().format.c_str(), largest_seen);
}

INSTANTIATE_TEST_SUITE_P(All, OnnxGrids,
                         ::testing::Values(Case{"f32"}, Case{"f16"}, Case{"bf16", "bf16"}, Case{"int4 g32 sym"},
                                           Case{"int4 g32 asym"}, Case{"int4 g16 sym bf16"}, Case{"int2 g32 sym"},
                                           Case{"int2 g16 asym"}, Case{"int3 g32 sym"}, Case{"int3 g32 asym"},
                                           Case{"int5 g32 sym"}, Case{"int6 g16 asym"}, Case{"int8 g32 sym"},
                                           Case{"int8 g32 asym"}, Case{"int4 channel sym"}, Case{"int4 channel asym"},
                                           Case{"int8 channel sym f32"}, Case{"int8 channel asym"},
                                           Case{"int4 g32 sym", "int8 g32 sym"}, Case{"int8 g32 sym", "int4 g16 asym"}),
                         [](const auto& one) {
                           std::string name = one.param.format + "_" + one.param.tables;
                           std::ranges::replace_if(
                               name, [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); }, '_');
                           return name;
                         });

struct Shaped {
  std::string name;
  void (*change)(Architecture&);
};

class OnnxArchitectures : public OnnxRuntime, public ::testing::WithParamInterface<Shaped> {};

/// In whole windows and token by token.
TEST_P(OnnxArchitectures, ComputeWhatOurForwardPassComputes) {
  Architecture a = small();
  GetParam().change(a);
  const CheckpointWeights base = random_model(a);
  for (const bool has_integer_table : {false, true}) {
    const FormattedModel model(base, linears_in("int4 g16 sym", has_integer_table ? "int8 g32 asym" : "bf16"));
    const MatrixF ours = our_logits(model, small_windows());
    expect_close("onnx", model, ours, {"", "chunk=1", "chunk=5 optimize=disabled"});
    if (has_attention_operator(a, OnnxOperators::onnxruntime))
      expect_close("onnx", model, ours, {"buffer=64", "buffer=64 chunk=1"});  // as onnxruntime-genai does
    if (!has_integer_table)
      expect_close("onnx-qdq", model, ours, {"", "chunk=1", "chunk=5 optimize=disabled", "left=3"});
  }
  std::printf("%s: largest difference %.3g\n", GetParam().name.c_str(), largest_seen);
}

INSTANTIATE_TEST_SUITE_P(
    All, OnnxArchitectures,
    ::testing::Values(Shaped{"Tied", [](Architecture& a) { a.tied = true; }},
                      Shaped{"Biases", [](Architecture& a) { a.qkv_bias = a.o_bias = a.mlp_bias = true; }},
                      Shaped{"HeadsOf8", [](Architecture& a) { a.head_dim = 8; }},
                      Shaped{"HeadsOf24", [](Architecture& a) { a.head_dim = 24; }},
                      Shaped{"WideHeads",
                             [](Architecture& a) {
                               a.head_dim = 64;
                               a.kv_heads = 6;
                             }},
                      Shaped{"SlidingWindow",
                             [](Architecture& a) {
                               a.family = "MistralForCausalLM";
                               a.sliding_window = 5;
                             }},
                      Shaped{"SlidingWindowSpelledOut",
                             [](Architecture& a) {
                               a.family = "MistralForCausalLM";
                               a.sliding_window = 5;
                               a.head_dim = 8;
                             }},
                      Shaped{"LinearRope",
                             [](Architecture& a) {
                               a.rope.kind = RopeKind::linear;
                               a.rope.factor = 3.0;
                             }},
                      Shaped{"Llama3Rope",
                             [](Architecture& a) {
                               a.rope = {.theta = 500.0,
                                         .kind = RopeKind::llama3,
                                         .factor = 8.0,
                                         .low_freq_factor = 1.0,
                                         .high_freq_factor = 4.0,
                                         .original_max_positions = 32};
                             }},
                      Shaped{"LongRope",
                             [](Architecture& a) {
                               a.rope.kind = RopeKind::longrope;
                               a.rope.divisors = {1.0, 1.1, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0};
                             }},
                      Shaped{"YarnRope",
                             [](Architecture& a) {
                               a.rope.kind = RopeKind::yarn;
                               a.rope.factor = 4.0;
                               a.rope.original_max_positions = 16;
                               a.rope.attention_factor = 1.25;
                             }},
                      Shaped{"HalvesOfHeadsRotated",
                             [](Architecture& a) {
                               a.head_dim = 32;
                               a.rotary_dim = 16;
                             }},
                      Shaped{"PartsOfHeadsRotatedSpelledOut", [](Architecture& a) { a.rotary_dim = 12; }},
                      Shaped{"NormsOfHeads", [](Architecture& a) { a.family = "Qwen3ForCausalLM"; }},
                      Shaped{"NormsOfHeadsSpelledOut",
                             [](Architecture& a) {
                               a.family = "Qwen3ForCausalLM";
                               a.head_dim = 8;
                             }},
                      Shaped{"ExpertsSomeOfWhichGetNoToken",
                             [](Architecture& a) {
                               a.family = "Qwen3MoeForCausalLM";
                               a.experts = 6;
                               a.experts_per_token = 2;
                               a.expert_ffn = 48;
                               a.renormalised = true;
                             }},
                      Shaped{"NormsBehind", [](Architecture& a) { a.family = "Olmo2ForCausalLM"; }},
                      Shaped{"NormsBehindSpelledOut",
                             [](Architecture& a) {
                               a.family = "Olmo2ForCausalLM";
                               a.head_dim = 8;
                             }}),
    [](const auto& one) { return one.param.name; });

class OnnxFamilies : public OnnxRuntime {
 protected:
  void export_to(const std::string& exporter, const ModelWeights& model, const fs::path& checkpoint) const {
    const std::vector<StoreFile> files = read_folder_files(checkpoint);
    const ExportPlan plan{model.architecture(), planned_tensors(model), nullptr, files, "test", {}};
    find_exporter(exporter)->make()->write(plan, model, folder / exporter, silent_progress());
  }
};

/// Longer than any window of theirs.
const Windows kFamilyWindows{random_ids(1, 4096), random_ids(48, 4096)};

class EveryOnnxFamily : public OnnxFamilies, public ::testing::WithParamInterface<FamilyCase> {};

TEST_P(EveryOnnxFamily, ComputeWhatOurForwardPassComputes) {
  const fs::path checkpoint = write_random_checkpoint(folder / "checkpoint", GetParam().config, 20);
  const auto model = open_checkpoint_model(checkpoint);
  const MatrixF ours = our_logits(*model, kFamilyWindows);
  for (const char* const exporter : {"onnx", "onnx-qdq"}) {
    export_to(exporter, *model, checkpoint);
    std::vector<std::string> ways{"", "chunk=1", "chunk=5 optimize=disabled"};
    const bool is_standard = exporter == std::string("onnx-qdq");
    if (is_standard)
      ways.emplace_back("left=3");
    else if (has_attention_operator(model->architecture(), OnnxOperators::onnxruntime))
      ways.emplace_back("buffer=64 chunk=5");
    const std::vector<MatrixF> theirs = logits(exporter, kFamilyWindows, ways);
    for (std::size_t way = 0; way < ways.size(); ++way) {
      const Difference apart = difference(theirs[way], ours);
      EXPECT_LT(apart.largest, kClose) << exporter << " " << ways[way];
      std::printf("%s, %s %s: %.3g of %.3g\n", GetParam().name.c_str(), exporter, ways[way].c_str(), apart.largest,
                  apart.scale);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, EveryOnnxFamily, ::testing::ValuesIn(family_cases()),
                         [](const auto& one) { return one.param.name; });

/// Up to the original context (64 tokens) one set of factors, beyond it the other, from the first position on; a cache
/// that begins beyond it is gone on with.
TEST_F(OnnxFamilies, LongerTextsTakeTheOtherFactorsOfRope) {
  const Windows windows{random_ids(64, 4096), random_ids(65, 4096), random_ids(100, 4096)};
  for (const char* const family : {"phi3_longrope", "phi4_mini"}) {  // with the operator of attention, and without
    const fs::path checkpoint = write_random_checkpoint(folder / family, family_case(family).config, 20);
    const auto model = open_checkpoint_model(checkpoint);
    ASSERT_EQ(model->architecture().rope.original_max_positions, 64u);
    const MatrixF ours = our_logits(*model, windows);
    for (const char* const exporter : {"onnx", "onnx-qdq"}) {
      export_to(exporter, *model, checkpoint);
      const std::vector<MatrixF> theirs = logits(exporter, windows, {"", "chunk=70", "optimize=disabled", "chunk=40"});
      for (std::size_t way = 0; way < 3; ++way)
        EXPECT_LT(difference(theirs[way], ours).largest, kClose) << family << " " << exporter << " " << way;
      // Keys that were turned by the first set are not turned again.
      EXPECT_GT(difference(theirs[3], ours).largest, kClose) << family << " " << exporter;
    }
  }
}

/// The yardstick can fail: each of these is one setting of a family that is not the model's.
struct OtherSetting {
  const char* family;
  nlohmann::json changes;
};

TEST_F(OnnxRuntime, AnotherModelOfAFamilyIsTold) {
  const std::vector<OtherSetting> others{
      {"gemma2", {{"attn_logit_softcapping", 20.0}}}, {"gemma2", {{"final_logit_softcapping", 20.0}}},
      {"gemma2", {{"query_pre_attn_scalar", 48}}},    {"gemma2", {{"sliding_window", 17}}},
      {"gemma2", {{"hidden_activation", "silu"}}},    {"gemma3", {{"rope_local_base_freq", 5000.0}}},
      {"gemma3", {{"sliding_window_pattern", 3}}},    {"phi3_partial", {{"partial_rotary_factor", 0.5}}},
      {"gpt2", {{"activation_function", "relu"}}},    {"mixtral", {{"num_experts_per_tok", 3}}},
      {"qwen3_moe", {{"norm_topk_prob", false}}}};
  for (const OtherSetting& other : others) {
    const fs::path checkpoint = folder / other.family;
    if (!fs::exists(checkpoint)) write_random_checkpoint(checkpoint, family_case(other.family).config, 20);
    nlohmann::json config = family_case(other.family).config;
    config.update(other.changes);
    const fs::path changed = copy_checkpoint(checkpoint, folder / "changed", config);
    const std::vector<StoreFile> files = read_folder_files(changed);
    const auto model = open_checkpoint_model(changed);
    const ExportPlan plan{model->architecture(), planned_tensors(*model), nullptr, files, "test", {}};
    find_exporter("onnx")->make()->write(plan, *model, folder / "onnx", silent_progress());
    const MatrixF ours = our_logits(*open_checkpoint_model(checkpoint), kFamilyWindows);
    EXPECT_GT(difference(logits("onnx", kFamilyWindows, {""}).front(), ours).largest, kClose)
        << other.family << other.changes;
    fs::remove_all(changed);
  }
}

/// The yardstick can fail: each of these is one setting that is not the model's.
TEST_F(OnnxRuntime, AnotherModelIsTold) {
  const CheckpointWeights base = random_model(small());
  const FormattedModel model(base, linears_in("int4 g32 sym", "f16"));
  const MatrixF ours = our_logits(model, small_windows());
  const auto apart_of = [&](const std::string& exporter, const ModelWeights& other) {
    write(exporter, other);
    return difference(logits(exporter, small_windows(), {kFloatActivations}).front(), ours).largest;
  };
  const auto changed = [&](void (*change)(Architecture&)) {
    Architecture a = small();
    change(a);
    return random_model(a);
  };
  for (const char* const exporter : {"onnx", "onnx-qdq"}) {
    const CheckpointWeights theta = changed([](Architecture& a) { a.rope.theta = 5000.0; });
    EXPECT_GT(apart_of(exporter, FormattedModel(theta, linears_in("int4 g32 sym", "f16"))), kClose) << exporter;
    const CheckpointWeights window = changed([](Architecture& a) {
      a.family = "MistralForCausalLM";
      a.sliding_window = 5;
    });
    EXPECT_GT(apart_of(exporter, FormattedModel(window, linears_in("int4 g32 sym", "f16"))), kClose) << exporter;
    EXPECT_GT(apart_of(exporter, FormattedModel(base, linears_in("int4 g16 sym", "f16"))), kClose) << exporter;
  }
}

/// What documents say of onnxruntime's defaults: fusing DequantizeLinear and MatMul rounds activations.
TEST_F(OnnxRuntime, FusionRoundsActivationsUnlessToldNotTo) {
  const CheckpointWeights base = random_model(small());
  const FormattedModel model(base, linears_in("int4 g32 sym", "f16"));
  const MatrixF ours = our_logits(model, small_windows());
  write("onnx-qdq", model);
  const double by_default = difference(logits("onnx-qdq", small_windows(), {""}).front(), ours).largest;
  std::printf("onnx-qdq with default options: %.3g\n", by_default);
  EXPECT_LT(by_default, 0.2);
  EXPECT_GT(by_default, kClose) << "the default no longer rounds: documents say that it does";
}

/// A trained model, its own tokens and all its vocabulary.
TEST_F(OnnxRuntime, PredictsWhatWePredictFromTheDemo) {
  const FormattedModel model(*demo().model, linears_in("int4 g64 asym", "bf16"));
  const Windows windows = windows_of_texts(60);
  const MatrixF ours = our_logits(model, windows);
  for (const char* const exporter : {"onnx", "onnx-qdq"}) {
    const ExportPlan plan = plan_of(model);
    find_exporter(exporter)->make()->write(plan, model, folder / exporter, silent_progress());
    const Difference apart = difference(logits(exporter, windows, {kFloatActivations}).front(), ours);
    std::printf("demo, %s: %.3g of %.3g\n", exporter, apart.largest, apart.scale);
    EXPECT_LT(apart.largest, kClose) << exporter;
  }
}

}  // namespace
}  // namespace adze
