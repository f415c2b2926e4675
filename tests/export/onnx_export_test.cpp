// ONNX folders without a runtime: what a plain reader finds in the graph and the side file, golden bytes, promised
// sizes, refusals, and the way back as a model.
#include <fstream>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/parallel.h"
#include "base/random.h"
#include "export/export_testing.h"
#include "export/onnx/integer_layout.h"
#include "export/plain_onnx.h"
#include "model/onnx/onnx_weights.h"

namespace adze {
namespace {

using namespace testing;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;
namespace fs = std::filesystem;

Architecture plain_architecture() {
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
  a.qkv_bias = a.o_bias = a.mlp_bias = true;
  return a;
}

std::vector<StoreFile> kept_files() {
  return {{"config.json",
           R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 96,
               "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 2,
               "head_dim": 16, "vocab_size": 70, "rms_norm_eps": 1e-05, "rope_theta": 10000.0,
               "max_position_embeddings": 64, "hidden_act": "silu", "attention_bias": true, "mlp_bias": true,
               "bos_token_id": 1, "eos_token_id": 2, "quantization_config": {"quant_method": "gptq"}})"},
          {"generation_config.json", R"({"eos_token_id": [2, 5]})"},
          {"tokenizer.json", "{}"},
          {"chat_template.jinja", "{{ text }}"},
          {"README.md", "---\nlicense: mit\n---\nwords\n"}};
}

struct Exported {
  Exported(const std::string& exporter, const ModelWeights& model, std::vector<StoreFile> kept = kept_files())
      : files(std::move(kept)),
        plan{model.architecture(), planned_tensors(model), nullptr, files, "test", {{"adze.version", "1"}}},
        path(folder / "out") {
    const auto made = find_exporter(exporter)->make();
    predicted = made->predict_bytes(plan);
    made->write(plan, model, path, silent_progress());
    named = made->files(plan, path);
  }

  TempFolder folder;
  std::vector<StoreFile> files;
  ExportPlan plan;
  fs::path path;
  std::uint64_t predicted = 0;
  std::vector<fs::path> named;
};

const ModelWeights& plain_model() {
  static const CheckpointWeights model = random_model(plain_architecture());
  return model;
}

std::uint64_t folder_bytes(const fs::path& path) {
  std::uint64_t sum = 0;
  for (const auto& entry : fs::directory_iterator(path)) sum += entry.file_size();
  return sum;
}

class OnnxFolders : public ::testing::TestWithParam<const char*> {};

TEST_P(OnnxFolders, AreWellFormed) {
  const FormattedModel model(plain_model(), linears_in("int4 g32 asym", "bf16"));
  const Exported out(GetParam(), model);
  const PlainOnnx onnx = plain_onnx(out.path);
  const bool is_standard = std::string(GetParam()) == "onnx-qdq";
  EXPECT_EQ(onnx.ir_version, 10u);
  EXPECT_EQ(onnx.operators.at(""), 21u);
  EXPECT_EQ(onnx.operators.contains("com.microsoft"), !is_standard);
  EXPECT_EQ(onnx.properties.at("adze.version"), "1");
  EXPECT_THAT(onnx.inputs, ElementsAre("input_ids", "attention_mask", "past_key_values.0.key",
                                       "past_key_values.0.value", "past_key_values.1.key", "past_key_values.1.value"));
  EXPECT_THAT(onnx.outputs,
              ElementsAre("logits", "present.0.key", "present.0.value", "present.1.key", "present.1.value"));

  std::set<std::string> values(onnx.inputs.begin(), onnx.inputs.end()), names;
  EXPECT_EQ(onnx.initializers.size(), onnx.initializer_names.size()) << "names are unique";
  for (const std::string& name : onnx.initializer_names) EXPECT_TRUE(values.insert(name).second) << name;
  std::set<std::string> used;
  for (const PlainNode& node : onnx.nodes) {
    EXPECT_TRUE(names.insert(node.name).second) << node.name;
    EXPECT_TRUE(node.domain.empty() || node.domain == "com.microsoft");
    if (is_standard) {
      EXPECT_TRUE(node.domain.empty() && node.op != "SimplifiedLayerNormalization") << node.op;
    }
    for (const std::string& input : node.inputs) {
      EXPECT_TRUE(input.empty() || values.contains(input)) << node.name << " takes " << input << " too early";
      used.insert(input);
    }
    for (const std::string& output : node.outputs)
      EXPECT_TRUE(output.empty() || values.insert(output).second) << output;
    for (const auto& [name, attribute] : node.attributes)
      EXPECT_TRUE(attribute.is_filled) << node.name << " " << name << " of type " << attribute.type;
  }
  for (const std::string& output : onnx.outputs) EXPECT_TRUE(values.contains(output)) << output;
  for (const std::string& name : onnx.initializer_names) EXPECT_TRUE(used.contains(name)) << name << " is not used";
}

TEST_P(OnnxFolders, KeepWeightsApartAndAligned) {
  const FormattedModel model(plain_model(), linears_in("int4 g32 asym", "bf16"));
  const Exported out(GetParam(), model);
  const PlainOnnx onnx = plain_onnx(out.path);
  std::map<std::uint64_t, std::uint64_t> places;  // offset to end
  for (const auto& [name, one] : onnx.initializers) {
    if (!one.is_external) {
      EXPECT_LE(one.bytes.size(), 1024u) << name;
      continue;
    }
    EXPECT_EQ(one.location, "model.onnx_data");
    EXPECT_EQ(one.offset % (one.bytes.size() >= 4096 ? 4096 : 64), 0u) << name;
    EXPECT_TRUE(places.emplace(one.offset, one.offset + one.bytes.size()).second) << name;
  }
  std::uint64_t end = 0;
  for (const auto& [first, last] : places) {
    ASSERT_GE(first, end) << "two weights overlap";
    EXPECT_EQ(onnx.data.substr(end, first - end).find_first_not_of('\0'), std::string::npos);
    end = last;
  }
  EXPECT_EQ(end, onnx.data.size());
}

TEST_P(OnnxFolders, TakeTheBytesThatWerePromised) {
  const FormattedModel model(plain_model(), linears_in("int4 g32 sym", "f16"));
  const Exported out(GetParam(), model);
  EXPECT_EQ(out.predicted, folder_bytes(out.path));
  EXPECT_EQ(out.named.front(), out.path / "config.json");
  std::set<std::string> named, there;
  for (const fs::path& file : out.named) named.insert(file.filename().string());
  for (const auto& entry : fs::directory_iterator(out.path)) there.insert(entry.path().filename().string());
  EXPECT_EQ(named, there);
  EXPECT_EQ(read_file(out.path / "chat_template.jinja"), "{{ text }}");
  EXPECT_THAT(read_file(out.path / "README.md"), HasSubstr("license: mit"));
  EXPECT_FALSE(nlohmann::json::parse(read_file(out.path / "config.json")).contains("quantization_config"));
}

TEST_P(OnnxFolders, AreTheSameForAnyNumberOfThreads) {
  const FormattedModel model(plain_model(), linears_in("int4 g32 asym", "f16"));
  std::vector<std::string> first;
  for (const int threads : {1, 4}) {
    set_thread_count(threads);
    const Exported out(GetParam(), model);
    std::vector<std::string> files;
    for (const fs::path& file : out.named) files.push_back(read_file(file));
    if (first.empty()) first = files;
    EXPECT_EQ(files, first) << threads;
  }
  set_thread_count(0);
}

INSTANTIATE_TEST_SUITE_P(Both, OnnxFolders, ::testing::Values("onnx", "onnx-qdq"),
                         [](const auto& one) { return std::string(one.param) == "onnx" ? "onnx" : "qdq"; });

struct Stored {
  std::string format;
  std::string as_block, as_dequantized;  ///< formats that the readers find
};

class OnnxStored : public ::testing::TestWithParam<Stored> {};

TEST_P(OnnxStored, EveryValueIsTheModels) {
  const FormattedModel model(plain_model(), linears_in(GetParam().format, "f16"));
  for (const std::string exporter : {"onnx", "onnx-qdq"}) {
    SCOPED_TRACE(exporter);
    const Exported out(exporter, model);
    const PlainOnnx plain = plain_onnx(out.path);
    const OnnxWeights read(out.path);
    const BlockWeights block = model.block(1), back = read.block(1);
    for (const LinearInfo& info : block_linears(model.architecture())) {
      const MatrixF meant = block[info.slot].weight->decode();
      const std::string base = "/model/" + module_name(1, info);
      const std::vector<float> values = exporter == "onnx"
                                            ? plain_blocks(plain, plain.node(base + "/MatMulNBits"))
                                            : plain_dequantized(plain, plain.node(base + "/DequantizeLinear"));
      ASSERT_EQ(values.size(), meant.values().size());
      // Asymmetric grids with f32 scales: we add an offset that is rounded, runtimes multiply.
      const double tolerance =
          GetParam().format.ends_with("f32") ? 1e-6 * std::fabs(*std::ranges::max_element(values)) : 0;
      for (std::size_t i = 0; i < values.size(); ++i)
        ASSERT_NEAR(values[i], meant.values()[i], tolerance) << info.module << " " << i;
      EXPECT_EQ(back[info.slot].weight->format(), exporter == "onnx" ? GetParam().as_block : GetParam().as_dequantized);
      EXPECT_EQ(back[info.slot].weight->decode(), meant);
      EXPECT_EQ(back[info.slot].bias, block[info.slot].bias);
    }
    EXPECT_EQ(back[NormSlot::before_attention], block[NormSlot::before_attention]);
    EXPECT_EQ(read.final_norm(), model.final_norm());
    EXPECT_EQ(read.embedding()->payload().size(), model.embedding()->payload().size());
    EXPECT_EQ(read.embedding()->decode(), model.embedding()->decode());
    EXPECT_EQ(read.head()->decode(), model.head()->decode());
  }
}

INSTANTIATE_TEST_SUITE_P(All, OnnxStored,
                         ::testing::Values(Stored{"int4 g32 sym", "int4 g32 sym", "int4 g32 sym"},
                                           Stored{"int4 g32 asym", "int4 g32 asym", "int4 g32 asym"},
                                           Stored{"int8 g16 sym bf16", "int8 g16 sym bf16", "int8 g16 sym bf16"},
                                           Stored{"int8 g32 asym f32", "int8 g32 asym f32", "int8 g32 asym f32"},
                                           Stored{"int2 g32 sym", "int2 g32 sym", "int4 g32 sym"},
                                           Stored{"int2 g32 asym", "int2 g32 asym", "int4 g32 asym"},
                                           Stored{"int3 g16 sym", "int4 g16 sym", "int4 g16 sym"},
                                           Stored{"int5 g32 asym", "int8 g32 asym", "int8 g32 asym"},
                                           Stored{"int6 g32 sym", "int8 g32 sym", "int8 g32 sym"},
                                           Stored{"int4 channel sym", "int4 channel sym", "int4 channel sym"},
                                           Stored{"int8 channel asym", "int8 channel asym", "int8 channel asym"}),
                         [](const auto& one) {
                           std::string name = one.param.format;
                           std::ranges::replace_if(
                               name, [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); }, '_');
                           return name;
                         });

/// A matrix of 2 x 36 with one scale a row: two blocks of 16 and one that is not full.
IntegerMatrix tiny(bool is_symmetric) {
  IntegerMatrix matrix{{4, is_symmetric, ScaleScope::channel, 0, DType::f32}, {2, 36}, {}, {}, {}};
  matrix.codes.resize(2 * matrix.code_bytes());
  for (std::size_t r = 0; r < 2; ++r) {
    std::vector<std::uint8_t> row(36);
    for (std::size_t c = 0; c < 36; ++c) row[c] = static_cast<std::uint8_t>((c + r) % 16);
    matrix.pack_row(r, row);
  }
  const std::array<float, 2> scales{0.5f, 2.0f};
  matrix.scales.assign(reinterpret_cast<const std::byte*>(scales.data()),
                       reinterpret_cast<const std::byte*>(scales.data() + 2));
  matrix.zeros = is_symmetric ? std::vector<std::uint8_t>{8, 8} : std::vector<std::uint8_t>{3, 12};
  return matrix;
}

std::string hex(std::span<const std::byte> bytes) {
  std::string text;
  for (const std::byte byte : bytes) text += fmt::format("{:02x}", std::to_integer<unsigned>(byte));
  return text;
}

TEST(OnnxLayouts, OfBlocksHaveTheDocumentedBytes) {
  const IntegerMatrix matrix = tiny(false);
  const BlockLayout layout = block_layout(matrix.spec, 36).value();
  EXPECT_EQ(layout.block, 16u);
  EXPECT_EQ(layout.blocks, 3u);
  const IntegerParts parts = block_parts(matrix, matrix.code_rows(), layout);
  EXPECT_EQ(hex(parts.codes),
            "1032547698badcfe1032547698badcfe1032000000000000"
            "21436587a9cbed0f21436587a9cbed0f2143000000000000");
  EXPECT_THAT(parts.scales, ElementsAre(0.5f, 0.5f, 0.5f, 2.0f, 2.0f, 2.0f));
  EXPECT_EQ(hex(parts.zeros), "3303cc0c");  // each row padded to a byte
}

TEST(OnnxLayouts, OfTensorsHaveTheDocumentedBytes) {
  IntegerMatrix matrix = tiny(true);
  const IntegerParts parts = dequantize_parts(matrix);
  // [36, 2], codes less 8 in two's complement: column 0 holds -8 and -7, the first in the low half.
  EXPECT_EQ(hex(parts.codes).substr(0, 32), "98a9bacbdcedfe0f1021324354657687");
  EXPECT_THAT(parts.scales, ElementsAre(0.5f, 2.0f));
  EXPECT_TRUE(parts.zeros.empty());
}

TEST(OnnxLayouts, BlocksDivideGroups) {
  const auto block = [](ScaleScope scope, std::size_t group, std::size_t cols) -> std::size_t {
    const auto layout = block_layout({4, true, scope, group, DType::f16}, cols);
    return layout ? layout->block : 0;
  };
  EXPECT_EQ(block(ScaleScope::group, 128, 512), 128u);
  EXPECT_EQ(block(ScaleScope::group, 512, 1024), 256u);
  EXPECT_EQ(block(ScaleScope::group, 96, 192), 32u);
  EXPECT_EQ(block(ScaleScope::group, 24, 192), 0u);
  EXPECT_EQ(block(ScaleScope::channel, 0, 4096), 256u);
  EXPECT_EQ(block(ScaleScope::channel, 0, 36), 16u);
}

/// Groups that are no block: scales are repeated, and the values stay.
TEST(OnnxFormats, GroupsOfSeveralBlocksAreExact) {
  const FormattedModel model(plain_model(), [](const TensorSpec& spec) -> std::string {
    return spec.slot == LinearSlot::q && spec.role == TensorRole::linear ? "int4 g48 asym" : "f16";
  });
  const Exported out("onnx", model);
  const PlainOnnx plain = plain_onnx(out.path);
  const PlainNode& node = plain.node("/model/layers.0.self_attn.q_proj/MatMulNBits");
  EXPECT_EQ(node.attributes.at("block_size").integer, 16);
  EXPECT_TRUE(std::ranges::equal(plain_blocks(plain, node), model.block(0)[LinearSlot::q].weight->decode().values()));
}

TEST(OnnxFormats, HaveOneFileOfWeights) {
  const std::vector<StoreFile> files = kept_files();
  const Architecture architecture = plain_architecture();
  ExportPlan plan{architecture, planned_tensors(plain_model()), nullptr, files, "test", {}};
  EXPECT_GT(find_exporter("onnx")->make()->predict_bytes(plan), 0u);
  plan.split_max_bytes = 1'000'000;
  EXPECT_THROW((void)find_exporter("onnx")->make()->predict_bytes(plan), Error);
}

TEST(OnnxFormats, TiedTablesOfIntegersAreStoredOnce) {
  Architecture a = plain_architecture();
  a.tied = true;
  const CheckpointWeights base = random_model(a);
  const FormattedModel model(base, all_in("int8 g32 asym"));
  const Exported out("onnx", model);
  const PlainOnnx plain = plain_onnx(out.path);
  EXPECT_EQ(plain.initializers.at("lm_head.weight_codes").offset,
            plain.initializers.at("model.embed_tokens.weight_codes").offset);
  const OnnxWeights read(out.path);
  EXPECT_TRUE(read.architecture().tied);
  EXPECT_EQ(read.embedding()->format(), "int8 g32 asym");
  EXPECT_EQ(read.head()->decode(), model.embedding()->decode());
}

TEST(OnnxFormats, SettingsForGenerationAreThere) {
  const FormattedModel model(plain_model(), linears_in("int4 g32 sym", "f16"));
  const Exported out("onnx", model);
  const auto config = nlohmann::json::parse(read_file(out.path / "genai_config.json"));
  const auto& said = config["model"];
  EXPECT_EQ(said["type"], "llama");
  EXPECT_EQ(said["bos_token_id"], 1);
  EXPECT_EQ(said["eos_token_id"], nlohmann::json({2, 5}));  // generation_config.json is asked first
  EXPECT_EQ(said["pad_token_id"], 2);
  EXPECT_EQ(said["vocab_size"], 70);
  EXPECT_EQ(said["context_length"], 64);
  EXPECT_EQ(said["decoder"]["filename"], "model.onnx");
  EXPECT_EQ(said["decoder"]["head_size"], 16);
  EXPECT_EQ(said["decoder"]["num_key_value_heads"], 2);
  EXPECT_EQ(said["decoder"]["inputs"]["past_key_names"], "past_key_values.%d.key");
  EXPECT_EQ(config["search"]["past_present_share_buffer"], true);
  const Exported plain("onnx-qdq", model);
  EXPECT_EQ(nlohmann::json::parse(read_file(plain.path / "genai_config.json"))["search"]["past_present_share_buffer"],
            false);
}

std::string refusal(const std::string& exporter, const std::string& format, TensorRole role = TensorRole::linear) {
  const Architecture a = plain_architecture();
  for (const TensorSpec& spec : expected_tensors(a))
    if (spec.role == role) return find_exporter(exporter)->make()->cannot_hold(a, {spec, format}).value_or("");
  return "";
}

TEST(OnnxFormats, RefuseWhatTheyCannotHoldAndNameWhatTheyCan) {
  for (const char* const exporter : {"onnx", "onnx-qdq"}) {
    EXPECT_THAT(refusal(exporter, "gguf/q4_k"), HasSubstr("take an integer grid such as int4"));
    EXPECT_THAT(refusal(exporter, "int4 tensor sym"), HasSubstr("take scope: channel"));
    EXPECT_EQ(refusal(exporter, "int4 g32 sym"), "");
    EXPECT_EQ(refusal(exporter, "int4 g32 sym, 2:4"), "");
    EXPECT_EQ(refusal(exporter, "rank 8 [f16] [f16]"), "");
    EXPECT_EQ(refusal(exporter, "int4 g32 sym", TensorRole::head), "");
  }
  EXPECT_THAT(refusal("onnx", "int4 g24 sym"), HasSubstr("take group: 32, or export onnx-qdq"));
  EXPECT_EQ(refusal("onnx-qdq", "int4 g24 sym"), "");
  EXPECT_EQ(refusal("onnx", "int8 g32 asym", TensorRole::embedding), "");
  EXPECT_THAT(refusal("onnx", "int8 g24 asym", TensorRole::embedding), HasSubstr("store: f16"));
  EXPECT_THAT(refusal("onnx-qdq", "int8 g32 asym", TensorRole::embedding), HasSubstr("export onnx"));
}

/// Files that say what is not so. change: of model.onnx.
void expect_refused(const std::function<void(std::string&)>& change, const std::string& message) {
  const FormattedModel model(plain_model(), linears_in("int4 g32 sym", "f16"));
  const Exported out("onnx", model);
  std::string bytes = read_file(out.path / "model.onnx");
  change(bytes);
  write_file(out.path / "model.onnx", bytes);
  try {
    const OnnxWeights read(out.path);
    (void)read.block(0);
    ADD_FAILURE() << "accepted: " << message;
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_data) << error.what();
    EXPECT_THAT(error.what(), HasSubstr(message));
  }
}

std::function<void(std::string&)> replacing(std::string from, std::string to) {
  return [=](std::string& bytes) {
    ASSERT_EQ(from.size(), to.size());
    const std::size_t at = bytes.rfind(from);
    ASSERT_NE(at, std::string::npos) << from;
    bytes.replace(at, from.size(), to);
  };
}

TEST(OnnxReader, RefusesFilesThatContradictThemselves) {
  expect_refused(replacing("model.onnx_data", "../el.onnx_data"), "el.onnx_data");
  expect_refused(replacing("model.onnx_data", "/odel.onnx_data"), "odel.onnx_data");
  expect_refused(replacing("length\x12\x04"
                           "4608",
                           "length\x12\x04"
                           "4607"),
                 "its shape takes");
  expect_refused(replacing("offset\x12\x01"
                           "0",
                           "offset\x12\x01"
                           "x"),
                 "is no size");
  expect_refused(replacing("model.layers.0.mlp.up_proj.weight_codes", "model.layers.1.mlp.up_proj.weight_codes"),
                 "two initializers are called");
  expect_refused([](std::string& bytes) { bytes.resize(bytes.size() - 1); }, "are left");
  expect_refused([](std::string& bytes) { bytes.insert(0, "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"); },
                 "64 bits");
}

/// What reading a folder says; changes: to config.json, null takes a key away.
std::string read_with(const Exported& out, const nlohmann::json& changes) {
  const std::string config = read_file(out.path / "config.json");
  auto changed = nlohmann::json::parse(config);
  changed.merge_patch(changes);
  write_file(out.path / "config.json", changed.dump());
  std::string said = "accepted";
  try {
    const OnnxWeights read(out.path);
    (void)read.block(0);
  } catch (const Error& error) {
    said = error.what();
  }
  write_file(out.path / "config.json", config);
  return said;
}

TEST(OnnxReader, RefusesGraphsThatAreNotOfTheConfiguration) {
  const FormattedModel model(plain_model(), linears_in("int4 g32 sym", "f16"));
  const Exported out("onnx", model);
  EXPECT_THAT(read_with(out, {{"rope_theta", 20000.0}}), HasSubstr("another angle than config.json's RoPE"));
  EXPECT_THAT(read_with(out, {{"num_attention_heads", 4}}), HasSubstr("num_heads is 6, config.json says 4"));
  EXPECT_THAT(read_with(out, {{"rms_norm_eps", 1e-6}}), HasSubstr("epsilon"));
  EXPECT_THAT(read_with(out, {{"intermediate_size", 192}}), HasSubstr("K and N"));
  EXPECT_THAT(read_with(out, {{"max_position_embeddings", 128}}), HasSubstr("cos_cache"));
  EXPECT_EQ(read_with(out, {{"rope_theta", 10000.0}}), "accepted");
}

const nlohmann::json kWindowed{{"architectures", {"MistralForCausalLM"}},
                               {"model_type", "mistral"},
                               {"attention_bias", nullptr},
                               {"mlp_bias", nullptr},
                               {"sliding_window", 5}};

/// Settings that are constants of the graph, not attributes of an operator.
TEST(OnnxReader, RefusesConstantsThatAreNotOfTheConfiguration) {
  const FormattedModel model(plain_model(), linears_in("int4 g32 sym", "f16"));
  const Exported out("onnx-qdq", model);
  EXPECT_EQ(read_with(out, nlohmann::json::object()), "accepted");
  EXPECT_THAT(read_with(out, {{"rms_norm_eps", 1e-6}}), HasSubstr("input_layernorm/LayerNorm/Add': its constant"));
  EXPECT_THAT(read_with(out, {{"num_attention_heads", 4}}), HasSubstr("attn/q/groups': its constant"));
  EXPECT_THAT(read_with(out, {{"num_key_value_heads", 3}}), HasSubstr("attn/q/groups': its constant"));
  EXPECT_THAT(read_with(out, kWindowed), HasSubstr("'/model/mask/window/Sub' is missing"));
}

TEST(OnnxReader, RefusesAWindowThatIsNotOfTheConfiguration) {
  Architecture a = plain_architecture();
  a.family = "MistralForCausalLM";
  a.sliding_window = 5;
  a.qkv_bias = a.o_bias = a.mlp_bias = false;
  a.head_dim = 8;  // so that `onnx` spells attention out, too
  const CheckpointWeights base = random_model(a);
  for (const char* const exporter : {"onnx", "onnx-qdq"}) {
    SCOPED_TRACE(exporter);
    std::vector<StoreFile> files = kept_files();
    auto config = nlohmann::json::parse(files.front().text);
    config.merge_patch(kWindowed);
    config["head_dim"] = 8;
    files.front().text = config.dump();
    const Exported out(exporter, FormattedModel(base, linears_in("int4 g16 sym", "f16")), files);
    EXPECT_EQ(read_with(out, nlohmann::json::object()), "accepted");
    EXPECT_THAT(read_with(out, {{"sliding_window", 6}}), HasSubstr("window/Sub': its constant is [5]"));
    EXPECT_THAT(read_with(out, {{"architectures", {"LlamaForCausalLM"}}, {"model_type", "llama"}}),
                HasSubstr("config.json has none"));
  }
}

TEST(OnnxReader, RefusesAnotherNumberOfBlocksAndOtherVersions) {
  expect_refused(replacing("/model/layers.1/attn/GroupQueryAttention\"", "/model/layers.9/attn/GroupQueryAttention\""),
                 "'/model/layers.1/attn/q/groups' is missing");
  const std::string standard("\x42\x04\x0A\x00\x10\x15", 6), other("\x42\x04\x0A\x00\x10\x16", 6);
  expect_refused(replacing(standard, other), "operators of '' in version 22");
  expect_refused(replacing("\x0A\x0D"
                           "com.microsoft\x10\x01",
                           "\x0A\x0D"
                           "com.microsoft\x10\x02"),
                 "operators of 'com.microsoft' in version 2");
  expect_refused([](std::string& bytes) { bytes.at(1) = 11; }, "IR version 11");
  expect_refused(replacing("\x3A\x0D"
                           "com.microsoft",
                           "\x3A\x0D"
                           "com.macrosoft"),
                 "has no version");
}

/// A tied head is read as the embedding, so that nothing else would look at its nodes. before: `from` is the last one
/// in front of these bytes.
void expect_head_refused(const std::string& exporter, const std::string& format, const std::string& before,
                         const std::string& from, const std::string& to, const std::string& message) {
  SCOPED_TRACE(fmt::format("{} {}: {}", exporter, format, message));
  Architecture a = plain_architecture();
  a.tied = true;
  const CheckpointWeights base = random_model(a);
  const Exported out(exporter, FormattedModel(base, all_in(format)));
  EXPECT_TRUE(OnnxWeights(out.path).architecture().tied);
  std::string bytes = read_file(out.path / "model.onnx");
  ASSERT_EQ(from.size(), to.size());
  const std::size_t end = bytes.find(before), at = bytes.rfind(from, end);
  ASSERT_TRUE(end != std::string::npos && at != std::string::npos);
  bytes.replace(at, from.size(), to);
  write_file(out.path / "model.onnx", bytes);
  expect_error(ErrorKind::bad_data, message, [&] { OnnxWeights{out.path}; });
}

TEST(OnnxReader, RefusesTiedHeadsThatAreNotTheTable) {
  const std::string table = "model.embed_tokens.weight", name = "/lm_head/MatMulNBits";
  for (const std::string part : {"_scales", "_zeros"})
    expect_head_refused("onnx", "int8 g32 asym", name, table + part, table.substr(0, table.size() - 1) + "s" + part,
                        "other scales or zero points");
  const auto attribute = [](const std::string& word, char value) {
    return std::string{'\x0A', static_cast<char>(word.size())} + word + '\x18' + value;
  };
  const auto changed = [&](const std::string& word, char from, char to) {
    expect_head_refused("onnx", "int8 g32 asym", "/logits", attribute(word, from), attribute(word, to), word + " is");
  };
  changed("K", 96, 64);
  changed("N", 70, 71);
  changed("bits", 8, 4);
  changed("block_size", 32, 16);

  for (const char* const exporter : {"onnx", "onnx-qdq"}) {
    expect_head_refused(exporter, "f32", "/lm_head/Transpose", table, "model.embed_tokens.weighs",
                        "is not the embedding table");
    expect_head_refused(exporter, "bf16", "/lm_head/Cast", table, "model.embed_tokens.weighs",
                        "is not the embedding table");
    expect_head_refused(exporter, "f16", "/lm_head/MatMul", "/lm_head/Transpose/output_0",
                        "/lm_head/Transposf/output_0", "does not multiply by the output");
  }
}

TEST(OnnxReader, MutatedGraphsAreReadOrRefused) {
  const FormattedModel model(plain_model(), linears_in("int4 g32 asym", "f16"));
  for (const char* const exporter : {"onnx", "onnx-qdq"}) {
    const Exported out(exporter, model);
    const std::string whole = read_file(out.path / "model.onnx");
    RandomStream random(11, exporter);
    std::size_t refused = 0;
    for (int i = 0; i < 150; ++i) {
      std::string bytes = whole;
      for (int change = 0; change < 3; ++change)
        bytes[random.below(bytes.size())] = static_cast<char>(random.below(256));
      std::ofstream(out.path / "model.onnx", std::ios::binary) << bytes;
      try {
        const OnnxWeights read(out.path);
        for (std::size_t block = 0; block < 2; ++block) (void)read.block(block);
        (void)read.head();
      } catch (const Error& error) {
        EXPECT_NE(error.kind(), ErrorKind::internal) << error.what();
        ++refused;
      }
    }
    EXPECT_GT(refused, 30u) << exporter;
  }
}

TEST(OnnxReader, EveryCutOfTheSideFileIsRefused) {
  const FormattedModel model(plain_model(), linears_in("int4 g32 sym", "f16"));
  const Exported out("onnx", model);
  const std::uint64_t whole = fs::file_size(out.path / "model.onnx_data");
  for (const std::uint64_t size : {std::uint64_t{0}, whole / 2, whole - 1}) {
    fs::resize_file(out.path / "model.onnx_data", size);
    EXPECT_THROW(OnnxWeights{out.path}, Error) << size;
  }
}

}  // namespace
}  // namespace adze
