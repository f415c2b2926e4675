// The GGUF exporter: what it writes is what the model holds, in the size it promised, and what it refuses it names.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "base/file.h"
#include "base/parallel.h"
#include "checkpoint/gguf_writer.h"
#include "export/export_testing.h"
#include "export/gguf/piece_scores.h"
#include "model/forward.h"
#include "model/rope.h"
#include "text/character_fixtures.h"

namespace adze {
namespace {

using namespace testing;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
namespace fs = std::filesystem;

const Exporter& exporter() {
  static const std::unique_ptr<Exporter> instance = find_exporter("gguf")->make();
  return *instance;
}

const ModelWeights& rich_model() {
  static const CheckpointWeights model = random_model(rich_architecture());
  return model;
}

void expect_same_matrix(const CompressedTensor& a, const CompressedTensor& b, std::string_view what) {
  EXPECT_EQ(a.decode(), b.decode()) << what;
}

void expect_same_model(const ModelWeights& a, const ModelWeights& b) {
  expect_same_matrix(*a.embedding(), *b.embedding(), "embedding");
  expect_same_matrix(*a.head(), *b.head(), "head");
  EXPECT_EQ(a.final_norm(), b.final_norm());
  for (std::size_t i = 0; i < a.architecture().layers; ++i) {
    const BlockWeights left = a.block(i), right = b.block(i);
    EXPECT_EQ(left[NormSlot::before_attention], right[NormSlot::before_attention]);
    EXPECT_EQ(left[NormSlot::before_ffn], right[NormSlot::before_ffn]);
    for (const LinearInfo& info : block_linears(a.architecture())) {
      expect_same_matrix(*left[info.slot].weight, *right[info.slot].weight, module_name(i, info));
      EXPECT_EQ(left[info.slot].bias, right[info.slot].bias) << module_name(i, info);
    }
  }
}

/// Files in a folder, by name.
std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  return names;
}

struct HeldFormat {
  std::string format;
  std::string type;
};
class HeldFormats : public ::testing::TestWithParam<HeldFormat> {};

TEST_P(HeldFormats, ComeBackValueForValueInThePredictedSize) {
  const FormattedModel model(rich_model(), linears_in(GetParam().format, "f16"));
  const TempFolder folder;
  const fs::path path = folder / "model.gguf";
  const ExportPlan plan = plan_of(model);
  const std::uint64_t predicted = exporter().predict_bytes(plan);
  exporter().write(plan, model, path, silent_progress());

  EXPECT_EQ(predicted, fs::file_size(path));
  EXPECT_EQ(names_in(folder.path()), std::vector<std::string>{"model.gguf"});
  const GgufFile file(path);
  EXPECT_EQ(file.find_tensor("blk.1.ffn_up.weight")->type->name, GetParam().type);
  EXPECT_EQ(file.find_tensor("token_embd.weight")->type->name, "F16");
  EXPECT_EQ(file.find_tensor("blk.0.attn_norm.weight")->type->name, "F32");
  EXPECT_EQ(file.find_tensor("blk.0.attn_q.bias")->type->name, "F32");
  expect_same_model(GgufWeights(path), model);
}

INSTANTIATE_TEST_SUITE_P(Gguf, HeldFormats,
                         ::testing::Values(HeldFormat{"f32", "F32"}, HeldFormat{"f16", "F16"},
                                           HeldFormat{"bf16", "BF16"}, HeldFormat{"gguf/q4_0", "Q4_0"},
                                           HeldFormat{"gguf/q8_0", "Q8_0"}, HeldFormat{"gguf/q4_k", "Q4_K"},
                                           HeldFormat{"gguf/q4_1", "Q4_1"}, HeldFormat{"gguf/q5_0", "Q5_0"},
                                           HeldFormat{"gguf/q5_1", "Q5_1"}, HeldFormat{"gguf/q2_k", "Q2_K"},
                                           HeldFormat{"gguf/q3_k", "Q3_K"}, HeldFormat{"gguf/q5_k", "Q5_K"},
                                           HeldFormat{"gguf/q6_k", "Q6_K"}, HeldFormat{"gguf/iq4_nl", "IQ4_NL"},
                                           HeldFormat{"gguf/iq4_xs", "IQ4_XS"}, HeldFormat{"gguf/tq1_0", "TQ1_0"},
                                           HeldFormat{"gguf/tq2_0", "TQ2_0"}, HeldFormat{"gguf/mxfp4", "MXFP4"},
                                           HeldFormat{"nvfp4", "NVFP4"}, HeldFormat{"nvfp4 / 8192", "NVFP4"},
                                           HeldFormat{"int2 g32 sym", "Q4_0"}, HeldFormat{"int3 g64 sym", "Q4_0"},
                                           HeldFormat{"int4 g128 sym", "Q4_0"}, HeldFormat{"int4 channel sym", "Q4_0"},
                                           HeldFormat{"int4 tensor sym", "Q4_0"}, HeldFormat{"int5 g32 sym", "Q8_0"},
                                           HeldFormat{"int6 g256 sym", "Q8_0"}, HeldFormat{"int8 g128 sym", "Q8_0"},
                                           HeldFormat{"int8 channel sym", "Q8_0"}),
                         [](const auto& case_info) {
                           std::string name = case_info.param.format;
                           std::ranges::replace_if(
                               name, [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); }, '_');
                           return name;
                         });

TEST(GgufExport, HoldsTheCodeMinus128OfInt8) {
  // The last code of every down_proj; int8 codes are stored with an offset of 128.
  class WithCode final : public FormattedModel {
   public:
    WithCode() : FormattedModel(rich_model(), linears_in("int8 g32 sym", "f16")) {}
    BlockWeights block(std::size_t index) const override {
      BlockWeights block = FormattedModel::block(index);
      const auto& down = dynamic_cast<const QuantizedTensor&>(*block[LinearSlot::down].weight);
      std::vector<std::byte> payload(down.payload().begin(), down.payload().end());
      payload.back() = std::byte{0};
      block[LinearSlot::down].weight =
          std::make_shared<QuantizedTensor>(grid_from_name("int8 g32 sym"), down.shape(), std::move(payload));
      return block;
    }
  };
  const WithCode model;
  const TempFolder folder;
  export_gguf(model, folder / "m.gguf");
  const GgufFile file(folder / "m.gguf");
  EXPECT_EQ(tensor_bytes(file, "blk.0.ffn_down.weight").back(), std::byte{0x80});
}

TEST(GgufExport, DemoInFloat32GivesBitIdenticalLogits) {
  const FormattedModel model(*demo().model, all_in("f32"));
  const TempFolder folder;
  export_gguf(model, folder / "demo.gguf");
  const GgufWeights written(folder / "demo.gguf");

  const std::vector<std::int32_t> ids = demo().tokenizer.encode("The river rose in the night, and by morning", true);
  const auto logits_of = [&](const ModelWeights& weights) {
    const Forward forward(weights.architecture(), ids.size());
    Workspace work;
    MatrixF x(ids.size(), weights.architecture().hidden), out(ids.size(), weights.architecture().vocab);
    forward.embed(input_tables(weights), ids, x);
    for (std::size_t b = 0; b < weights.architecture().layers; ++b) forward.run_block(weights.block(b), x, work);
    forward.final_norm(norm_of(weights), x, x);
    forward.logits(*weights.head(), x, out, work);
    return out;
  };
  const MatrixF original = logits_of(*demo().model);
  EXPECT_GT(*std::ranges::max_element(original.values()), 1.0f);
  EXPECT_EQ(logits_of(written), original);
}

TEST(GgufExport, ReordersRowsOfQueriesAndKeysAndTheirBiases) {
  const TempFolder folder;
  export_gguf(rich_model(), folder / "m.gguf");
  const GgufFile file(folder / "m.gguf");
  const Architecture& a = rich_model().architecture();
  const BlockWeights block = rich_model().block(1);
  const MatrixF k = block[LinearSlot::k].weight->decode();
  const auto weights = tensor_bytes(file, "blk.1.attn_k.weight");
  const auto bias = tensor_bytes(file, "blk.1.attn_k.bias");
  const auto* const stored = reinterpret_cast<const float*>(weights.data());
  const auto* const stored_bias = reinterpret_cast<const float*>(bias.data());
  for (std::size_t h = 0; h < a.kv_heads; ++h)
    for (std::size_t pair = 0; pair < a.head_dim / 2; ++pair)
      for (std::size_t half = 0; half < 2; ++half) {
        const std::size_t to = h * a.head_dim + 2 * pair + half;
        const std::size_t from = h * a.head_dim + half * (a.head_dim / 2) + pair;
        EXPECT_EQ(stored[to * a.hidden + 5], k(from, 5));
        EXPECT_EQ(stored_bias[to], block[LinearSlot::k].bias[from]);
      }
  const auto v = tensor_bytes(file, "blk.1.attn_v.weight");
  const MatrixF meant_v = block[LinearSlot::v].weight->decode();
  EXPECT_TRUE(std::ranges::equal(v, std::as_bytes(meant_v.values())));
}

TEST(GgufExport, WritesTheSameBytesForAnyNumberOfThreads) {
  const FormattedModel model(rich_model(), linears_in("int4 g64 sym", "bf16"));
  const TempFolder folder;
  set_thread_count(1);
  export_gguf(model, folder / "one.gguf");
  set_thread_count(4);
  export_gguf(model, folder / "four.gguf");
  set_thread_count(0);
  EXPECT_EQ(read_file(folder / "one.gguf"), read_file(folder / "four.gguf"));
}

TEST(GgufExport, WritesTheHeadOnlyWhenItIsNotTied) {
  const TempFolder folder;
  export_gguf(rich_model(), folder / "untied.gguf");
  export_gguf(*demo().model, folder / "tied.gguf");
  EXPECT_NE(GgufFile(folder / "untied.gguf").find_tensor("output.weight"), nullptr);
  EXPECT_EQ(GgufFile(folder / "tied.gguf").find_tensor("output.weight"), nullptr);
}

TEST(GgufExport, OrdersTensorsAsTheTensorTable) {
  const TempFolder folder;
  export_gguf(rich_model(), folder / "m.gguf");
  const GgufFile file(folder / "m.gguf");
  const std::vector<TensorSpec> expected = expected_tensors(rich_model().architecture());
  ASSERT_EQ(file.tensors().size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(file.tensors()[i].name, expected[i].gguf_name);
}

TEST(GgufExport, WritesEverySettingWithTheTypeThatRuntimesAskFor) {
  ExportPlan plan = plan_of(*demo().model);
  plan.provenance = {{"adze.recipe", "4d1f"}, {"adze.calibration", ""}};
  const TempFolder folder;
  exporter().write(plan, *demo().model, folder / "m.gguf", silent_progress());
  const GgufFile file(folder / "m.gguf");
  const std::vector<GgufKeyValue> expected = {
      {"general.architecture", std::string("llama")},
      {"general.type", std::string("model")},
      {"general.name", std::string("test model")},
      {"general.size_label", std::string("5.8M")},
      {"general.file_type", std::uint32_t{32}},
      {"general.quantization_version", std::uint32_t{2}},
      {"llama.vocab_size", std::uint32_t{4096}},
      {"llama.context_length", std::uint32_t{512}},
      {"llama.embedding_length", std::uint32_t{256}},
      {"llama.block_count", std::uint32_t{6}},
      {"llama.feed_forward_length", std::uint32_t{768}},
      {"llama.attention.head_count", std::uint32_t{4}},
      {"llama.attention.head_count_kv", std::uint32_t{2}},
      {"llama.attention.key_length", std::uint32_t{64}},
      {"llama.attention.value_length", std::uint32_t{64}},
      {"llama.attention.layer_norm_rms_epsilon", 1e-5f},
      {"llama.rope.dimension_count", std::uint32_t{64}},
      {"llama.rope.freq_base", 10000.0f},
      {"adze.recipe", std::string("4d1f")},
      {"tokenizer.ggml.model", std::string("gpt2")},
  };
  ASSERT_GE(file.metadata().size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(file.metadata()[i], expected[i]) << expected[i].key;
  EXPECT_EQ(file.find_value("adze.calibration"), nullptr);
}

TEST(GgufExport, NamesTheTypeThatCoversMostBytes) {
  const std::vector<std::pair<std::string, std::uint32_t>> cases = {
      {"f32", 0},         {"f16", 1},         {"gguf/q4_0", 2},    {"gguf/q4_1", 3},    {"gguf/q8_0", 7},
      {"gguf/q5_0", 8},   {"gguf/q5_1", 9},   {"gguf/q2_k", 10},   {"gguf/q3_k", 11},   {"gguf/q4_k", 14},
      {"gguf/q5_k", 16},  {"gguf/q6_k", 18},  {"gguf/iq4_nl", 25}, {"gguf/iq4_xs", 30}, {"bf16", 32},
      {"gguf/tq1_0", 36}, {"gguf/tq2_0", 37}, {"gguf/mxfp4", 38}};
  const TempFolder folder;
  for (const auto& [format, id] : cases) {
    export_gguf(FormattedModel(rich_model(), all_in(format)), folder / "m.gguf");
    EXPECT_EQ(GgufFile(folder / "m.gguf").get<std::uint32_t>("general.file_type"), id) << format;
  }
}

TEST(GgufExport, KeepsTheLicenceOfTheConfig) {
  const std::vector<StoreFile> files = {{"config.json", R"({"license": "apache-2.0", "eos_token_id": 1})"}};
  ExportPlan plan = plan_of(*demo().model);
  plan.files = files;
  const TempFolder folder;
  exporter().write(plan, *demo().model, folder / "m.gguf", silent_progress());
  EXPECT_EQ(GgufFile(folder / "m.gguf").get<std::string>("general.license"), "apache-2.0");
}

std::string exported_licence(const std::string& config, const std::string& readme) {
  const std::vector<StoreFile> files = {{"config.json", config}, {"README.md", readme}};
  ExportPlan plan = plan_of(*demo().model);
  plan.files = files;
  const TempFolder folder;
  exporter().write(plan, *demo().model, folder / "m.gguf", silent_progress());
  const GgufFile file(folder / "m.gguf");
  return file.find_value("general.license") == nullptr ? "none" : file.get<std::string>("general.license");
}

TEST(GgufExport, TakesTheLicenceFromTheReadmesFrontMatter) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"---\nlanguage: en\nlicense: apache-2.0\n---\n# Model\n", "apache-2.0"},
      {"---\r\nlicense: \"mit\"  # see LICENSE\r\n---\r\n", "mit"},
      {"---\nlicense: 'llama3.2'\n---", "llama3.2"},
      {"# Model\n---\nlicense: mit\n---\n", "none"},
      {"---\nlicense: mit\nnever closed\n", "none"},
      {"---\nlicense:\n  - mit\n---\n", "none"},
      {"---\nlicense: [mit, bsd]\n---\n", "none"},
      {"---\ntags: x\n---\nlicense: mit\n", "none"},
      {"---\nmore:\n  license: mit\n---\n", "none"},
      {"", "none"}};
  for (const auto& [readme, licence] : cases)
    EXPECT_EQ(exported_licence(R"({"eos_token_id": 1})", readme), licence) << readme;
}

TEST(GgufExport, PrefersTheLicenceOfTheConfig) {
  EXPECT_EQ(exported_licence(R"({"license": "apache-2.0", "eos_token_id": 1})", "---\nlicense: mit\n---\n"),
            "apache-2.0");
}

Architecture with_rope(RopeKind kind, double factor) {
  Architecture a = small_architecture();
  a.vocab = 4096;
  a.rope.theta = 500000;
  a.rope.kind = kind;
  a.rope.factor = factor;
  return a;
}

TEST(GgufExport, WritesLinearRopeAsScalingKeys) {
  const CheckpointWeights model = random_model(with_rope(RopeKind::linear, 2.5));
  const TempFolder folder;
  export_gguf(model, folder / "m.gguf");
  const GgufFile file(folder / "m.gguf");
  EXPECT_EQ(file.get<std::string>("llama.rope.scaling.type"), "linear");
  EXPECT_EQ(file.get<float>("llama.rope.scaling.factor"), 2.5f);
  EXPECT_EQ(file.get<float>("llama.rope.freq_base"), 500000.0f);
  EXPECT_EQ(file.find_tensor(kGgufRopeDivisors), nullptr);
  EXPECT_EQ(GgufWeights(folder / "m.gguf").architecture().rope, model.architecture().rope);
}

TEST(GgufExport, WritesLlama3RopeAsDivisors) {
  Architecture a = with_rope(RopeKind::llama3, 32);
  a.head_dim = 64;
  a.rope.high_freq_factor = 5;
  a.rope.original_max_positions = 4096;
  const CheckpointWeights model = random_model(a);
  const TempFolder folder;
  export_gguf(model, folder / "m.gguf");
  const GgufFile file(folder / "m.gguf");
  EXPECT_EQ(file.find_value("llama.rope.scaling.type"), nullptr);
  ASSERT_NE(file.find_tensor(kGgufRopeDivisors), nullptr);
  EXPECT_EQ(file.find_tensor(kGgufRopeDivisors)->dims, std::vector<std::uint64_t>{32});
  const auto bytes = tensor_bytes(file, kGgufRopeDivisors);
  const auto* const stored = reinterpret_cast<const float*>(bytes.data());
  const std::vector<double> divisors = rope_divisors(a.rope, a.head_dim);
  for (std::size_t i = 0; i < divisors.size(); ++i) EXPECT_FLOAT_EQ(stored[i], static_cast<float>(divisors[i]));
  EXPECT_EQ(stored[0], 1.0f);
  EXPECT_EQ(stored[31], 32.0f);
  EXPECT_EQ(GgufWeights(folder / "m.gguf").architecture().rope, a.rope);
}

TEST(GgufExport, WritesLongRopeAsDivisors) {
  Architecture a = with_rope(RopeKind::longrope, 1);
  a.rope.divisors = {1, 2.5, 0.1, 31};
  const CheckpointWeights model = random_model(a);
  const TempFolder folder;
  export_gguf(model, folder / "m.gguf");
  const auto bytes = tensor_bytes(GgufFile(folder / "m.gguf"), kGgufRopeDivisors);
  const std::vector<float> expected{1, 2.5f, 0.1f, 31};
  ASSERT_EQ(bytes.size(), 16U);
  EXPECT_TRUE(std::ranges::equal(expected, std::span(reinterpret_cast<const float*>(bytes.data()), 4)));
  EXPECT_EQ(GgufWeights(folder / "m.gguf").architecture().rope, a.rope);
}

TEST(GgufExport, DoesNotMindNumbersThatTheRopeKindDoesNotUse) {
  for (const RopeKind kind : {RopeKind::none, RopeKind::linear}) {
    Architecture a = with_rope(kind, 3);
    a.rope.original_max_positions = 77;
    const TempFolder folder;
    EXPECT_NO_THROW(export_gguf(random_model(a), folder / "m.gguf"));
  }
}

class Warnings final : public Progress {
 public:
  void warn(const std::string& message) override { messages.push_back(message); }
  std::vector<std::string> messages;
};

TEST(GgufExport, SaysThatTheRuntimeHasNoSlidingWindow) {
  Architecture a = with_rope(RopeKind::none, 1);
  a.family = "MistralForCausalLM";
  a.sliding_window = 16;
  const CheckpointWeights model = random_model(a);
  const TempFolder folder;
  Warnings warnings;
  exporter().write(plan_of(model), model, folder / "m.gguf", warnings);
  ASSERT_EQ(warnings.messages.size(), 1u);
  EXPECT_THAT(warnings.messages[0], HasSubstr("beyond 16 tokens"));
  EXPECT_EQ(GgufFile(folder / "m.gguf").find_value("llama.attention.sliding_window"), nullptr);
}

TEST(GgufExport, SaysThatTheRuntimePutsSpacesInOtherPlaces) {
  nlohmann::json root = test::llama2_json({"ab"});
  root["normalizer"] = nullptr;
  root["pre_tokenizer"] = test::metaspace("first", false);
  const Tokenizer tokenizer = test::load(root);
  ASSERT_NE(character_remark(tokenizer.vocabulary()), "");
  Architecture a = with_rope(RopeKind::none, 1);
  a.vocab = tokenizer.size();
  const CheckpointWeights model = random_model(a);
  const std::vector<StoreFile> files = {
      {"tokenizer_config.json", R"({"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})"}};
  const ExportPlan plan{model.architecture(), planned_tensors(model), &tokenizer, files, "", {}};
  const TempFolder folder;
  Warnings warnings;
  exporter().write(plan, model, folder / "m.gguf", warnings);
  ASSERT_EQ(warnings.messages.size(), 1u);
  EXPECT_THAT(warnings.messages[0], HasSubstr("m.gguf: GGUF runtimes put a space before every text"));
}

PlannedTensor planned(std::string format, std::size_t cols) {
  TensorSpec spec;
  spec.module = "layers.3.mlp.down_proj";
  spec.gguf_name = "blk.3.ffn_down.weight";
  spec.shape = {64, cols};
  return {spec, std::move(format)};
}

TEST(GgufExport, NamesTensorReasonAndNearestChoiceOfWhatItCannotHold) {
  struct Case {
    std::string format;
    std::size_t cols;
    std::string words;
  };
  const std::vector<Case> cases = {
      {"int4 g128 asym", 512,
       "int4 g128 asym: GGUF has no blocks with integer zero points; use symmetric: true, or "
       "grid: gguf/q4_k"},
      {"int4 g32 asym", 96, "use symmetric: true"},
      {"int4 g128 sym bf16", 512, "the scales of GGUF's blocks are f16; use scales: f16"},
      {"int4 g16 sym", 512, "groups of 16 columns do not fill GGUF's blocks of 32; use group: 32"},
      {"int4 g48 sym", 480 * 2, "groups of 48 columns do not fill"},
      {"int4 channel sym", 40, "rows of 40 columns do not divide into GGUF's blocks of 32; use store: f16"},
      {"gguf/q4_k", 96, "layers.3.mlp.down_proj: gguf/q4_k: rows of 96 columns do not divide into blocks of 256"},
      {"lowrank r16", 512, "lowrank r16: GGUF has no layout for it; use grid: gguf/q4_k"},
      {"f64", 512, "GGUF has no layout for it"},
  };
  for (const Case& c : cases) {
    const auto reason = exporter().cannot_hold(small_architecture(), planned(c.format, c.cols));
    ASSERT_TRUE(reason) << c.format;
    EXPECT_THAT(*reason, HasSubstr(c.words));
    EXPECT_THAT(*reason, ::testing::StartsWith("layers.3.mlp.down_proj: " + c.format + ": ")) << *reason;
    EXPECT_EQ(reason->find(c.format), reason->rfind(c.format)) << "the format is named once: " << *reason;
  }
  for (const char* const format : {"f32", "gguf/q4_k", "int4 g128 sym", "int8 channel sym"})
    EXPECT_EQ(exporter().cannot_hold(small_architecture(), planned(format, 512)), std::nullopt) << format;
}

TEST(GgufExport, RemarksOnGridsThatAreRepacked) {
  EXPECT_EQ(exporter().remark(small_architecture(), planned("int4 g128 sym", 512)),
            "layers.3.mlp.down_proj: int4 g128 sym is stored exactly as Q4_0 at 4.5 bits per weight");
  EXPECT_EQ(exporter().remark(small_architecture(), planned("int8 channel sym", 512)),
            "layers.3.mlp.down_proj: int8 channel sym is stored exactly as Q8_0 at 8.5 bits per weight");
  EXPECT_EQ(exporter().remark(small_architecture(), planned("gguf/q4_k", 512)), std::nullopt);
}

TEST(GgufExport, RemarksOnTheSlidingWindowOnceAndOnlyWhereItMatters) {
  Architecture a = small_architecture();
  const auto remarks = [&](const char* format) {
    std::vector<std::string> all;
    for (const TensorSpec& spec : expected_tensors(a))
      if (const auto remark = exporter().remark(a, {spec, spec.shape.size() == 1 ? "f32" : format}))
        all.push_back(*remark);
    return all;
  };
  a.sliding_window = a.max_positions / 2;
  ASSERT_EQ(remarks("f16").size(), 1u);
  EXPECT_THAT(remarks("f16")[0], HasSubstr(fmt::format("beyond {} tokens", a.sliding_window)));
  PlannedTensor embedding = planned("int4 g128 sym", 512);
  embedding.spec.role = TensorRole::embedding;
  EXPECT_THAT(exporter().remark(a, embedding).value_or(""),
              ::testing::AllOf(HasSubstr("sliding window"), HasSubstr("stored exactly as Q4_0")));
  for (const std::size_t window : {std::size_t{0}, a.max_positions}) {
    a.sliding_window = window;
    EXPECT_THAT(remarks("f16"), IsEmpty()) << window;
  }
}

TEST(GgufExport, RefusesAPlanWithATensorItCannotHoldBeforeWriting) {
  const FormattedModel model(rich_model(), linears_in("int4 g64 asym", "f16"));
  const TempFolder folder;
  const ExportPlan plan = plan_of(model);
  expect_error(ErrorKind::bad_data, "layers.0.self_attn.q_proj", [&] { exporter().predict_bytes(plan); });
  expect_error(ErrorKind::bad_data, "zero points",
               [&] { exporter().write(plan, model, folder / "m.gguf", silent_progress()); });
  EXPECT_THAT(names_in(folder.path()), IsEmpty());
}

TEST(GgufExport, AsksForATokenizer) {
  ExportPlan plan = plan_of(*demo().model);
  plan.tokenizer = nullptr;
  expect_error(ErrorKind::bad_data, "put tokenizer.json into the checkpoint folder",
               [&] { exporter().predict_bytes(plan); });
}

TEST(GgufExport, RefusesPlansThatAreNotTheArchitectures) {
  const TempFolder folder;
  ExportPlan plan = plan_of(*demo().model);
  for (PlannedTensor& tensor : plan.tensors) tensor.spec.permuted_heads = 0;
  expect_error(ErrorKind::internal, "q_proj", [&] { exporter().predict_bytes(plan); });
  plan.tensors.pop_back();
  expect_error(ErrorKind::internal, "tensors", [&] { exporter().predict_bytes(plan); });
}

TEST(GgufExport, RefusesAModelInOtherFormatsThanPlanned) {
  const FormattedModel model(rich_model(), linears_in("gguf/q4_0", "f16"));
  ExportPlan plan = plan_of(model);
  plan.tensors[3].format = "gguf/q8_0";
  const TempFolder folder;
  expect_error(ErrorKind::internal, "gguf/q4_0 in the model",
               [&] { exporter().write(plan, model, folder / "m.gguf", silent_progress()); });
  EXPECT_THAT(names_in(folder.path()), IsEmpty());
}

/// Changes a bit of a tensor when all is written, before it is read back.
class Saboteur final : public Progress {
 public:
  Saboteur(fs::path file, std::string tensor, std::uint64_t byte)
      : file_(std::move(file)), tensor_(std::move(tensor)), byte_(byte) {}
  void start(std::string_view what, std::uint64_t) override {
    if (what != "verifying") return;
    const auto place = static_cast<std::streamoff>(GgufFile(file_).find_tensor(tensor_)->offset + byte_);
    std::fstream file(file_, std::ios::in | std::ios::out | std::ios::binary);
    const int byte = file.seekg(place).get();
    file.seekp(place).put(static_cast<char>(byte ^ 1));
  }

 private:
  fs::path file_;
  std::string tensor_;
  std::uint64_t byte_;
};

TEST(GgufExport, LeavesNoFileWhenWhatItReadsBackDiffers) {
  struct Case {
    const char* format;
    const char* tensor;
    std::uint64_t byte;
    const char* place;
  };
  constexpr std::uint64_t kFloats = 256 * 4,
                          kBlock =
                              144;  // bytes of a row, of Q4_0 as of Q4_K; codes of one begin at 2, of the other at 16
  const Case cases[] = {{"f32", "blk.1.ffn_up.weight", 70 * kFloats + 9 * 4, "row 70, column 9 is"},
                        {"f32", "blk.1.attn_q.bias", 0, "element 0 is"},
                        {"f32", "blk.1.attn_norm.weight", 7 * 4, "element 7 is"},
                        {"gguf/q4_k", "blk.1.ffn_up.weight", 70 * kBlock + 16 + 4, "row 70, column 4 is"},
                        {"gguf/q4_k", "blk.1.ffn_up.weight", 70 * kBlock, "row 70, column "},
                        {"gguf/q4_k", "blk.1.attn_q.weight", 70 * kBlock, "row "},
                        {"int4 g32 sym", "blk.1.ffn_up.weight", 70 * kBlock + 2, "row 70, column 0 is"}};
  const TempFolder folder;
  const std::string old = "an older export";
  folder.put("m.gguf", old);
  for (const Case& test : cases) {
    const FormattedModel model(rich_model(), linears_in(test.format, "f16"));
    Saboteur saboteur(folder / "m.gguf.unverified", test.tensor, test.byte);
    expect_error(ErrorKind::internal, fmt::format("tensor '{}': {}", test.tensor, test.place),
                 [&] { exporter().write(plan_of(model), model, folder / "m.gguf", saboteur); });
    EXPECT_EQ(names_in(folder.path()), std::vector<std::string>{"m.gguf"});
    EXPECT_EQ(read_file(folder / "m.gguf"), old);
  }
}

TEST(GgufExport, WritesNothingThatIsNotFinite) {
  class Infinite final : public FormattedModel {
   public:
    Infinite() : FormattedModel(rich_model(), all_in("f32")) {}
    std::vector<float> final_norm() const override { return std::vector<float>(256, INFINITY); }
  };
  const TempFolder folder;
  expect_error(ErrorKind::bad_data, "tensor 'output_norm.weight': non-finite value inf at element 0",
               [&] { export_gguf(Infinite(), folder / "m.gguf"); });
  EXPECT_THAT(names_in(folder.path()), IsEmpty());
}

TEST(GgufExport, SaysWhenTheFileCannotBeCreated) {
  const TempFolder folder;
  expect_error(ErrorKind::cannot_create, "m.gguf", [&] { export_gguf(*demo().model, folder / "missing" / "m.gguf"); });
}

TEST(Exporters, AreFoundByName) {
  ASSERT_NE(find_exporter("gguf"), nullptr);
  EXPECT_FALSE(find_exporter("gguf")->summary.empty());
  EXPECT_EQ(find_exporter("ggml"), nullptr);
  for (const ExporterInfo& info : exporters()) EXPECT_NE(info.make(), nullptr);
}

}  // namespace
}  // namespace adze
