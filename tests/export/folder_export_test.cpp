// Exporters of folders: what they write is what the model holds, by readers of our own and by plain ones that share no
// code with either, in the size that was promised.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/file.h"
#include "base/parallel.h"
#include "checkpoint/safetensors_writer.h"
#include "export/export_testing.h"
#include "export/folder/bit_words.h"
#include "export/folder/cache_scales.h"
#include "export/plain_packed.h"
#include "model/packed/packed_weights.h"
#include "model/packed/stored_cache_scales.h"

namespace adze {
namespace {

using namespace testing;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

/// config.json of rich_architecture().
std::vector<StoreFile> rich_files() {
  return {{"config.json",
           R"({"model_type": "llama", "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2,
               "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 128, "vocab_size": 4100,
               "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "max_position_embeddings": 64, "hidden_act": "silu",
               "tie_word_embeddings": false, "attention_bias": true, "mlp_bias": true, "torch_dtype": "float16"})"},
          {"tokenizer.json", "{}"},
          {"README.md", "---\nlicense: mit\n---\nwords\n"}};
}

struct Case {
  std::string exporter;
  std::string format;
};

struct Exported {
  Exported(const std::string& exporter, const ModelWeights& model, std::uint64_t split = 0,
           CacheScales cache = CacheScales::none)
      : Exported(exporter, model, rich_files(), split, cache) {}
  Exported(const std::string& exporter, const ModelWeights& model, std::vector<StoreFile> kept, std::uint64_t split,
           CacheScales cache = CacheScales::none)
      : files(std::move(kept)),
        plan{model.architecture(), planned_tensors(model), nullptr, files, "test", {{"adze.version", "1"}}},
        path(folder / "out") {
    plan.split_max_bytes = split;
    plan.cache = cache;
    const auto made = find_exporter(exporter)->make();
    predicted = made->predict_bytes(plan);
    made->write(plan, model, path, silent_progress());
    named = made->files(plan, path);
  }

  std::uint64_t bytes() const {
    std::uint64_t sum = 0;
    for (const auto& entry : fs::directory_iterator(path)) sum += entry.file_size();
    return sum;
  }

  TempFolder folder;
  std::vector<StoreFile> files;
  ExportPlan plan;
  fs::path path;
  std::uint64_t predicted = 0;
  std::vector<fs::path> named;
};

const ModelWeights& rich_model() {
  static const CheckpointWeights model = random_model(rich_architecture());
  return model;
}

PlainMatrix plain_matrix(const Exported& out, const std::string& exporter, const std::string& base) {
  const auto tensors = plain_tensors(out.path);
  const auto config = plain_config(out.path);
  if (exporter == "gptq")
    return plain_gptq(tensors, base, config["quantization_config"]["bits"],
                      config["quantization_config"]["checkpoint_format"] == "gptq_v2");
  if (exporter == "awq") return plain_awq(tensors, base);
  if (exporter == "mlx") {
    const bool affine = config["quantization"]["mode"] == "affine";
    const unsigned bits = config["quantization"]["bits"];
    return affine ? plain_mlx(tensors, base, bits) : plain_mlx_elements(tensors, base, bits);
  }
  const std::string format = config["quantization_config"]["config_groups"]["group_0"]["format"];
  if (format != "pack-quantized") return plain_elements(tensors, base, format);
  return plain_compressed_tensors(tensors, base,
                                  config["quantization_config"]["config_groups"]["group_0"]["weights"]["num_bits"]);
}

class PackedFormats : public ::testing::TestWithParam<Case> {};

TEST_P(PackedFormats, HoldWhatTheModelHolds) {
  const FormattedModel model(rich_model(), linears_in(GetParam().format, "f16"));
  const Exported out(GetParam().exporter, model);
  EXPECT_EQ(out.predicted, out.bytes());
  for (const fs::path& file : out.named) EXPECT_TRUE(fs::exists(file)) << file;
  EXPECT_EQ(out.named.front(), out.path / "config.json");
  const PackedWeights written(out.path);
  EXPECT_EQ(written.architecture(), [&] {
    Architecture meant = model.architecture();
    meant.tied_stated = written.architecture().tied_stated;
    return meant;
  }());
  EXPECT_EQ(written.head()->decode(), model.head()->decode());
  EXPECT_EQ(written.final_norm(), model.final_norm());
  for (std::size_t b = 0; b < 2; ++b) {
    const BlockWeights left = written.block(b), right = model.block(b);
    EXPECT_EQ(left[NormSlot::before_attention], right[NormSlot::before_attention]);
    for (const LinearInfo& info : block_linears(model.architecture())) {
      const MatrixF meant = right[info.slot].weight->decode();
      EXPECT_EQ(left[info.slot].weight->format(), GetParam().format);
      EXPECT_THAT(left[info.slot].weight->payload(), ::testing::ElementsAreArray(right[info.slot].weight->payload()));
      EXPECT_EQ(left[info.slot].bias, right[info.slot].bias);
      const PlainMatrix plain = plain_matrix(out, GetParam().exporter, "model." + module_name(b, info));
      ASSERT_EQ(plain.size(), meant.values().size());
      for (std::size_t i = 0; i < plain.size(); ++i)
        ASSERT_NEAR(plain[i], meant.values()[i], 1e-6 * std::fabs(meant.values()[i])) << info.module << " " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, PackedFormats,
    ::testing::Values(Case{"gptq", "int4 g128 sym"}, Case{"gptq", "int4 g64 asym"}, Case{"gptq", "int8 channel sym"},
                      Case{"gptq", "int3 g32 sym"}, Case{"gptq", "int3 g64 asym bf16"}, Case{"gptq", "int2 g64 asym"},
                      Case{"awq", "int4 g128 asym"}, Case{"awq", "int4 g32 asym"},
                      Case{"compressed-tensors", "int4 g128 sym"}, Case{"compressed-tensors", "int4 g32 asym"},
                      Case{"compressed-tensors", "int8 channel sym bf16"},
                      Case{"compressed-tensors", "int8 channel asym"}, Case{"mlx", "int4 g64 sym"},
                      Case{"mlx", "int2 g32 asym"}, Case{"mlx", "int3 g128 sym bf16"}, Case{"mlx", "int5 g64 asym"},
                      Case{"mlx", "int6 g64 sym"}, Case{"mlx", "int8 g32 asym bf16"}, Case{"compressed-tensors", "fp8"},
                      Case{"compressed-tensors", "mxfp8"}, Case{"compressed-tensors", "nvfp4"},
                      Case{"compressed-tensors", "nvfp4 / 2816.5"}, Case{"compressed-tensors", "gguf/mxfp4"},
                      Case{"compressed-tensors-w8a8", "fp8"}, Case{"compressed-tensors-w8a8", "int8 channel sym bf16"},
                      Case{"mlx", "mxfp8"}, Case{"mlx", "gguf/mxfp4"}),
    [](const auto& one) {
      std::string name = one.param.exporter + "_" + one.param.format;
      std::ranges::replace_if(
          name, [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); }, '_');
      return name;
    });

std::vector<std::uint32_t> words_for(const std::vector<unsigned>& codes, int bits) {
  std::vector<std::uint32_t> words(words_of(codes.size(), bits));
  stream_words(
      codes.size(), bits, [&](std::size_t i) { return codes[i]; },
      [&](std::size_t w, std::uint32_t v) { words[w] = v; });
  return words;
}

/// Words that the formats' own tools make.
TEST(BitWords, AreTheDocumentedOnes) {
  EXPECT_THAT(words_for({1, 2, 3, 4, 5, 6, 7, 8}, 4), ElementsAre(0x87654321U));
  EXPECT_THAT(words_for({0, 1, 2, 3, 4, 5, 6, 7}, 4), ElementsAre(0x76543210U));
  std::vector<unsigned> threes;
  for (unsigned i = 0; i < 32; ++i) threes.push_back(i % 8);
  EXPECT_THAT(words_for(threes, 3), ElementsAre(0x88FAC688U, 0xC688FAC6U, 0xFAC688FAU));
}

/// Rows that lie further apart than they are long, turned, against one element after the other.
TEST(BitWords, ElementsAreTurned) {
  for (const std::size_t width : {std::size_t{2}, std::size_t{4}})
    for (const auto& [rows, cols] : {std::pair<std::size_t, std::size_t>{1, 1},
                                     {3, 5},
                                     {16, 16},
                                     {64, 32},
                                     {65, 33},
                                     {127, 130},
                                     {200, 16},
                                     {7, 300}}) {
      const std::size_t stride = cols * width + 6;
      std::vector<std::byte> in(rows * stride);
      for (std::size_t i = 0; i < in.size(); ++i) in[i] = static_cast<std::byte>(i * 7 + i / 251);
      const ByteArray out = transposed_elements({in.data(), {rows, cols * width}, stride}, width);
      ASSERT_EQ(out.size(), rows * cols * width);
      for (std::size_t r = 0; r < rows; ++r)
        for (std::size_t c = 0; c < cols; ++c)
          for (std::size_t b = 0; b < width; ++b)
            ASSERT_EQ(out.data()[(c * rows + r) * width + b], in[r * stride + c * width + b])
                << rows << " x " << cols << " of " << width << ": " << r << ", " << c;
    }
}

TEST(BitWords, RowsArePaddedToWords) {
  const std::vector<std::byte> in(100, std::byte{9});
  const ByteArray out = padded_rows({in.data(), {9, 5}, 11}, 2);
  ASSERT_EQ(out.size(), 72u);
  for (std::size_t i = 0; i < out.size(); ++i) ASSERT_EQ(out.data()[i], i % 8 < 5 ? std::byte{9} : std::byte{0}) << i;
}

/// One matrix in all formats: qzeros of symmetric codes, and the order of AWQ's columns.
TEST(FolderFormats, StoreZeroPointsAsEachDocumentSays) {
  const FormattedModel symmetric(rich_model(), linears_in("int4 g128 sym", "f16"));
  const Exported gptq("gptq", symmetric);
  const PlainTensor zeros = plain_tensors(gptq.path).at("model.layers.0.mlp.up_proj.qzeros");
  for (std::size_t w = 0; w < zeros.bytes.size() / 4; ++w) ASSERT_EQ(zeros.word(w), 0x77777777U);
  EXPECT_EQ(plain_config(gptq.path)["quantization_config"]["checkpoint_format"], "gptq");
  const Exported packed("compressed-tensors", symmetric);
  EXPECT_FALSE(plain_tensors(packed.path).contains("model.layers.0.mlp.up_proj.weight_zero_point"));
  EXPECT_EQ(plain_config(gptq.path)["quantization_config"],
            nlohmann::json::parse(read_file(gptq.path / "quantize_config.json")));
}

TEST(FolderFormats, MixedPrecisionIsSaidModuleByModule) {
  const FormattedModel model(rich_model(), [](const TensorSpec& spec) -> std::string {
    if (spec.role != TensorRole::linear) return "bf16";
    if (spec.slot == LinearSlot::down) return "int8 g128 sym";
    return spec.slot == LinearSlot::o ? "f16" : "int4 g128 sym";
  });
  for (const char* const exporter : {"gptq", "compressed-tensors", "mlx"}) {
    SCOPED_TRACE(exporter);
    const Exported out(exporter, model);
    const PackedWeights written(out.path);
    const BlockWeights block = written.block(1);
    EXPECT_EQ(block[LinearSlot::down].weight->format(), "int8 g128 sym");
    EXPECT_EQ(block[LinearSlot::up].weight->format(), "int4 g128 sym");
    EXPECT_EQ(block[LinearSlot::o].weight->format(), "f16");
  }
  const Exported packed("compressed-tensors", model);
  const auto quantization = plain_config(packed.path)["quantization_config"];
  EXPECT_EQ(quantization["config_groups"].size(), 2u);
  EXPECT_THAT(quantization["ignore"].dump(), HasSubstr("model.layers.1.self_attn.o_proj"));
  EXPECT_THAT(quantization["ignore"].dump(), HasSubstr("lm_head"));
  const Exported gptq("gptq", model);
  EXPECT_THAT(plain_config(gptq.path)["quantization_config"]["dynamic"].dump(),
              HasSubstr(R"("-:model\\.layers\\.0\\.self_attn\\.o_proj$":{})"));
}

/// What runtimes choose kernels by.
TEST(FolderFormats, SchemesAreSaidAsTheirPresetsSayThem) {
  const auto config_of = [](const char* exporter, const char* grid) {
    const FormattedModel model(rich_model(), linears_in(grid, "bf16"));
    return plain_config(Exported(exporter, model).path)["quantization_config"];
  };
  const auto nvfp4 = config_of("compressed-tensors", "nvfp4");
  EXPECT_EQ(nvfp4["format"], "nvfp4-pack-quantized");
  const auto weights = nvfp4["config_groups"]["group_0"]["weights"];
  EXPECT_EQ(weights["strategy"], "tensor_group");
  EXPECT_EQ(weights["group_size"], 16);
  EXPECT_EQ(weights["type"], "float");
  EXPECT_EQ(weights["num_bits"], 4);
  EXPECT_EQ(weights["scale_dtype"], "torch.float8_e4m3fn");
  EXPECT_TRUE(nvfp4["config_groups"]["group_0"]["input_activations"].is_null());
  const auto int8 = config_of("compressed-tensors-w8a8", "int8 channel sym");
  EXPECT_EQ(int8["format"], "int-quantized");
  const auto inputs = int8["config_groups"]["group_0"]["input_activations"];
  EXPECT_EQ(inputs["strategy"], "token");
  EXPECT_EQ(inputs["dynamic"], true);
  EXPECT_EQ(inputs["type"], "int");
  const auto fp8 = config_of("compressed-tensors-w8a8", "fp8");
  EXPECT_EQ(fp8["format"], "float-quantized");
  EXPECT_EQ(fp8["config_groups"]["group_0"]["weights"]["strategy"], "channel");
  EXPECT_EQ(fp8["config_groups"]["group_0"]["input_activations"]["type"], "float");
}

TEST(FolderFormats, FormatsOfSeveralKindsAreMixedPrecision) {
  const FormattedModel model(rich_model(), [](const TensorSpec& spec) -> std::string {
    if (spec.role != TensorRole::linear) return "bf16";
    if (spec.slot == LinearSlot::down) return "fp8";
    return spec.slot == LinearSlot::o ? "nvfp4" : "int4 g128 sym";
  });
  const Exported out("compressed-tensors", model);
  const auto quantization = plain_config(out.path)["quantization_config"];
  EXPECT_EQ(quantization["format"], "mixed-precision");
  EXPECT_EQ(quantization["config_groups"].size(), 3u);
  for (const auto& [name, group] : quantization["config_groups"].items())
    EXPECT_NE(group["format"], "mixed-precision") << name;
  const BlockWeights block = PackedWeights(out.path).block(1);
  EXPECT_EQ(block[LinearSlot::down].weight->format(), "fp8");
  EXPECT_EQ(block[LinearSlot::o].weight->format(), "nvfp4");
  EXPECT_EQ(block[LinearSlot::up].weight->format(), "int4 g128 sym");
}

/// Rows and columns that fill neither the squares that are turned together nor a cache line, of matrices that are read
/// back in several pieces.
TEST(FolderFormats, OfUnevenSizes) {
  Architecture a = rich_architecture();
  a.hidden = 280;
  a.ffn = 4120;
  a.heads = 5;
  a.kv_heads = 1;
  a.head_dim = 56;
  const CheckpointWeights base = random_model(a);
  std::vector<StoreFile> files = rich_files();
  files.front().text =
      R"({"model_type": "llama", "hidden_size": 280, "intermediate_size": 4120, "num_hidden_layers": 2,
          "num_attention_heads": 5, "num_key_value_heads": 1, "head_dim": 56, "vocab_size": 4100, "rms_norm_eps": 1e-05,
          "rope_theta": 10000.0, "max_position_embeddings": 64, "hidden_act": "silu", "tie_word_embeddings": false,
          "attention_bias": true, "mlp_bias": true, "torch_dtype": "float16"})";
  for (const auto& [exporter, format] :
       {std::pair{"awq", "int4 g40 asym"}, std::pair{"gptq", "int4 g40 asym"}, std::pair{"gptq", "int8 g40 sym"},
        std::pair{"compressed-tensors", "int4 g40 asym"}, std::pair{"compressed-tensors", "int8 g40 asym"}}) {
    SCOPED_TRACE(fmt::format("{} {}", exporter, format));
    const FormattedModel model(base, linears_in(format, "f16"));
    const Exported out(exporter, model, files, 0);
    for (const LinearInfo& info : block_linears(a)) {
      const MatrixF meant = model.block(1)[info.slot].weight->decode();
      const PlainMatrix plain = plain_matrix(out, exporter, "model." + module_name(1, info));
      ASSERT_EQ(plain.size(), meant.values().size());
      for (std::size_t i = 0; i < plain.size(); ++i)
        ASSERT_NEAR(plain[i], meant.values()[i], 1e-6 * std::fabs(meant.values()[i])) << info.module << " " << i;
    }
  }
}

/// A model whose blocks say how large their keys and values are.
class WithMaxima final : public FormattedModel {
 public:
  explicit WithMaxima(std::vector<CacheMaxima> maxima)
      : FormattedModel(rich_model(), linears_in("int4 g64 sym", "f16")), maxima_(std::move(maxima)) {}
  BlockWeights block(std::size_t index) const override {
    BlockWeights block = FormattedModel::block(index);
    block.cache = maxima_.at(index);
    return block;
  }

 private:
  std::vector<CacheMaxima> maxima_;
};

TEST(CacheScales, AreTheMaximaOverTheLargestE4m3) {
  const WithMaxima model({{448, 56}, {3.5f, 0}});
  const Exported plain("compressed-tensors", model);
  const Exported out("compressed-tensors", model, 0, CacheScales::fp8);
  EXPECT_EQ(out.predicted, out.bytes());
  const auto tensors = plain_tensors(out.path);
  EXPECT_EQ(tensors.size(), plain_tensors(plain.path).size() + 4);
  for (const auto& [name, scale] :
       {std::pair{"0.self_attn.k_scale", 1.0f}, std::pair{"0.self_attn.v_scale", 0.125f},
        std::pair{"1.self_attn.k_scale", 0.0078125f}, std::pair{"1.self_attn.v_scale", 1.0f}}) {
    const PlainTensor& tensor = tensors.at(std::string("model.layers.") + name);
    EXPECT_EQ(tensor.type, "F32");
    EXPECT_THAT(tensor.shape, ElementsAre(1));
    EXPECT_EQ(tensor.number(0), scale) << name;
  }
  EXPECT_EQ(plain_config(out.path)["quantization_config"]["kv_cache_scheme"].dump(),
            R"({"actorder":null,"block_structure":null,"dynamic":false,"group_size":null,"num_bits":8,)"
            R"("observer":"minmax","observer_kwargs":{},"strategy":"tensor","symmetric":true,"type":"float"})");
  EXPECT_TRUE(plain_config(plain.path)["quantization_config"]["kv_cache_scheme"].is_null());
  EXPECT_EQ(PackedWeights(out.path).block(1)[LinearSlot::k].weight->decode(),
            model.block(1)[LinearSlot::k].weight->decode());
  const Exported shards("compressed-tensors", model, 500'000, CacheScales::fp8);
  EXPECT_EQ(StoredCacheScales(shards.path, model.architecture()).values(0), 0.125f);
}

TEST(CacheScales, OfAnotherModelAreFound) {
  const WithMaxima model({{448, 56}, {3.5f, 0}});
  const Exported out("compressed-tensors", model, 0, CacheScales::fp8);
  verify_cache_scales(out.path, model, silent_progress());
  const auto differs = [&](std::vector<CacheMaxima> maxima, const std::string& tensor) {
    expect_error(ErrorKind::internal, tensor,
                 [&] { verify_cache_scales(out.path, WithMaxima(std::move(maxima)), silent_progress()); });
  };
  differs({{447, 56}, {3.5f, 0}}, "tensor 'model.layers.0.self_attn.k_scale': the scale 1 was written");
  differs({{448, 56}, {3.5f, 1}}, "tensor 'model.layers.1.self_attn.v_scale'");
  const Exported plain("compressed-tensors", model);
  expect_error(ErrorKind::bad_data, "no kv_cache_scheme",
               [&] { StoredCacheScales scales(plain.path, model.architecture()); });
}

TEST(CacheScales, NeedMaximaAndAPlace) {
  const FormattedModel unmeasured(rich_model(), linears_in("int4 g64 sym", "f16"));
  expect_error(ErrorKind::bad_data, "block 0: how large its keys and values are was not measured",
               [&] { Exported("compressed-tensors", unmeasured, 0, CacheScales::fp8); });
  const WithMaxima model({{448, 56}, {3.5f, 0}});
  expect_error(ErrorKind::bad_data, "gptq has no place for scales of a cache",
               [&] { Exported("gptq", model, 0, CacheScales::fp8); });
  const WithMaxima infinite({{std::numeric_limits<float>::infinity(), 1}, {1, 1}});
  expect_error(ErrorKind::bad_data, "model.layers.0.self_attn.k_scale': the largest magnitude in its cache is inf",
               [&] { Exported("compressed-tensors", infinite, 0, CacheScales::fp8); });
}

TEST(FolderFormats, ShardsAreIndexed) {
  const FormattedModel model(rich_model(), linears_in("int4 g64 sym", "bf16"));
  const Exported whole("compressed-tensors", model), split("compressed-tensors", model, 1'000'000);
  EXPECT_EQ(split.predicted, split.bytes());
  const auto index = nlohmann::json::parse(read_file(split.path / "model.safetensors.index.json"));
  const auto tensors = plain_tensors(split.path);
  EXPECT_EQ(index["weight_map"].size(), tensors.size());
  std::uint64_t total = 0;
  for (const auto& [name, tensor] : tensors) total += tensor.bytes.size();
  EXPECT_EQ(index["metadata"]["total_size"], total);
  std::size_t shards = 0;
  for (const auto& entry : fs::directory_iterator(split.path)) shards += entry.path().extension() == ".safetensors";
  EXPECT_GT(shards, 2u);
  EXPECT_EQ(PackedWeights(split.path).block(1)[LinearSlot::q].weight->decode(),
            PackedWeights(whole.path).block(1)[LinearSlot::q].weight->decode());
}

TEST(FolderFormats, AreTheSameBytesForAnyNumberOfThreads) {
  const FormattedModel model(rich_model(), linears_in("int4 g64 asym", "bf16"));
  for (const char* const exporter : {"gptq", "awq", "compressed-tensors", "mlx"}) {
    set_thread_count(1);
    const Exported one(exporter, model);
    set_thread_count(4);
    const Exported four(exporter, model);
    set_thread_count(0);
    EXPECT_EQ(read_file(one.path / "model.safetensors"), read_file(four.path / "model.safetensors")) << exporter;
  }
}

/// Groups of zeros have a scale of zero here; no runtime gets one.
TEST(FolderFormats, LetNoScaleOfZeroOut) {
  class WithZeros final : public FormattedModel {
   public:
    explicit WithZeros(std::string format)
        : FormattedModel(rich_model(), linears_in(format, "f16")), format_(std::move(format)) {}
    BlockWeights block(std::size_t index) const override {
      BlockWeights block = FormattedModel::block(index);
      MatrixF weights = rich_model().block(index)[LinearSlot::up].weight->decode();
      for (std::size_t c = 0; c < weights.cols(); ++c) weights(3, c) = 0;
      const DenseTensor dense = make_dense(weights, DType::f32);
      block[LinearSlot::up].weight = encode_as(dense, format_);
      return block;
    }

   private:
    std::string format_;
  };
  for (const auto& [exporter, format, suffix] :
       {std::tuple{"gptq", "int4 g64 sym", ".scales"}, std::tuple{"awq", "int4 g64 asym", ".scales"},
        std::tuple{"compressed-tensors", "int4 g64 sym", ".weight_scale"},
        std::tuple{"compressed-tensors", "fp8", ".weight_scale"},
        std::tuple{"compressed-tensors", "nvfp4", ".weight_scale"}, std::tuple{"mlx", "int4 g64 asym", ".scales"}}) {
    SCOPED_TRACE(exporter);
    const WithZeros model(format);
    const Exported out(exporter, model);
    const PlainTensor scales = plain_tensors(out.path).at(std::string("model.layers.0.mlp.up_proj") + suffix);
    for (std::size_t i = 0; i < scales.shape[0] * scales.shape[1]; ++i) {
      if (scales.type == "F8_E4M3")
        ASSERT_NE(scales.bytes[i], '\0');
      else
        ASSERT_NE(scales.number(i), 0.0f);
    }
    EXPECT_EQ(PackedWeights(out.path).block(0)[LinearSlot::up].weight->decode(),
              model.block(0)[LinearSlot::up].weight->decode());
  }
}

std::string refusal(const std::string& exporter, const std::string& linears, const std::string& tables = "f16") {
  const FormattedModel model(rich_model(), linears_in(linears, tables));
  const auto made = find_exporter(exporter)->make();
  for (const PlannedTensor& tensor : planned_tensors(model))
    if (auto reason = made->cannot_hold(model.architecture(), tensor)) return *reason;
  return "";
}

TEST(FolderFormats, RefuseWhatTheyCannotHold) {
  EXPECT_THAT(refusal("gptq", "int5 g64 sym"),
              HasSubstr("layers.0.self_attn.q_proj: GPTQ cannot hold int5 g64 sym: its "
                        "widths are 2, 3, 4 and 8"));
  EXPECT_THAT(refusal("gptq", "gguf/q4_k"), HasSubstr("GPTQ cannot hold gguf/q4_k: it holds codes with scales"));
  EXPECT_THAT(refusal("gptq", "int4 tensor sym"), HasSubstr("take scope: channel"));
  EXPECT_THAT(refusal("gptq", "int4 g64 sym f32"), HasSubstr("its scales are f16 or bf16"));
  EXPECT_THAT(refusal("awq", "int4 g64 sym"), HasSubstr("take symmetric: false"));
  EXPECT_THAT(refusal("awq", "int8 g64 asym"), HasSubstr("it has 4 bits"));
  EXPECT_THAT(refusal("awq", "int4 channel asym"), HasSubstr("it has groups"));
  EXPECT_THAT(refusal("compressed-tensors", "int3 g64 sym"), HasSubstr("4 and 8 bits"));
  EXPECT_THAT(refusal("compressed-tensors", "int4 g64 sym", "int8 g64 sym"), HasSubstr("keeps embedding and head"));
  EXPECT_THAT(refusal("mlx", "int4 g256 sym"), HasSubstr("its groups have 32, 64 or 128 columns"));
  EXPECT_EQ(refusal("mlx", "int4 g64 sym", "int8 g64 sym"), "");
  EXPECT_EQ(refusal("mlx", "gguf/mxfp4", "mxfp8"), "");
  EXPECT_THAT(refusal("mlx", "nvfp4"), HasSubstr("of small floats it has mxfp8 and gguf/mxfp4"));
  EXPECT_THAT(refusal("gptq", "nvfp4"), HasSubstr("GPTQ cannot hold nvfp4: its codes are integers"));
  EXPECT_THAT(refusal("awq", "fp8"), HasSubstr("its codes are integers"));
  EXPECT_THAT(refusal("compressed-tensors", "fp8 g128"), HasSubstr("its fp8 has a scale a row"));
  EXPECT_THAT(refusal("compressed-tensors-w8a8", "int8 g128 sym"),
              HasSubstr("int8, symmetric, scope: channel, or fp8"));
  EXPECT_THAT(refusal("compressed-tensors-w8a8", "nvfp4"), HasSubstr("kernels multiply fp8"));
  EXPECT_THAT(refusal("gguf", "fp8"), HasSubstr("fp8"));
  for (const char* const exporter : {"gptq", "awq", "compressed-tensors", "mlx"})
    expect_error(ErrorKind::bad_data, "no matrix is on a",
                 [&] { Exported(exporter, FormattedModel(rich_model(), all_in("f16"))); });
  const auto mixed = [](const char* other) {
    return FormattedModel(rich_model(), [=](const TensorSpec& spec) -> std::string {
      if (spec.role != TensorRole::linear) return "f16";
      return spec.slot == LinearSlot::down ? other : "int4 g64 asym";
    });
  };
  expect_error(ErrorKind::bad_data, "store zero points in two ways", [&] { Exported("gptq", mixed("int4 g64 sym")); });
  expect_error(ErrorKind::bad_data, "one group size", [&] { Exported("awq", mixed("int4 g32 asym")); });
}

TEST(SafetensorsExport, DecodesEverythingToTheDtypeOfTheConfig) {
  const FormattedModel model(rich_model(), linears_in("gguf/q4_k", "bf16"));
  const Exported out("safetensors", model);
  EXPECT_EQ(out.predicted, out.bytes());
  const auto written = open_checkpoint_model(out.path);
  EXPECT_EQ(written->embedding()->format(), "bf16");
  const BlockWeights left = written->block(0), right = model.block(0);
  for (const LinearInfo& info : block_linears(model.architecture()))
    EXPECT_EQ(left[info.slot].weight->decode(), make_dense(right[info.slot].weight->decode(), DType::f16).decode());
  EXPECT_FALSE(plain_config(out.path).contains("quantization_config"));
  EXPECT_THAT(read_file(out.path / "README.md"), HasSubstr("---\nlicense: mit\n---\n"));
  EXPECT_EQ(read_file(out.path / "tokenizer.json"), "{}");
}

TEST(FolderExport, ReplacesAModelAndNothingElse) {
  const FormattedModel model(rich_model(), linears_in("int4 g64 sym", "bf16"));
  Exported out("gptq", model, 500'000);  // shards, which the next one has none of
  out.plan.split_max_bytes = 0;
  const auto exporter = find_exporter("compressed-tensors")->make();
  exporter->write(out.plan, model, out.path, silent_progress());
  EXPECT_EQ(exporter->predict_bytes(out.plan), out.bytes());
  EXPECT_FALSE(fs::exists(out.path / "quantize_config.json"));         // of the one before
  exporter->write(out.plan, model, out.path / "", silent_progress());  // a slash at the end
  EXPECT_EQ(exporter->predict_bytes(out.plan), out.bytes());
  const fs::path notes = out.folder / "notes";
  fs::create_directories(notes);
  std::ofstream(notes / "README.md") << "mine";
  expect_error(ErrorKind::cannot_create, "holds files and no config.json",
               [&] { exporter->write(out.plan, model, notes, silent_progress()); });
  std::ofstream(notes / "todo.md") << "mine";
  expect_error(ErrorKind::cannot_create, "holds 'todo.md'",
               [&] { exporter->write(out.plan, model, notes, silent_progress()); });
  EXPECT_TRUE(fs::exists(notes / "README.md"));
  fs::rename(notes, out.path.string() + ".tmp");
  expect_error(ErrorKind::cannot_create, "out.tmp: holds 'todo.md'",
               [&] { exporter->write(out.plan, model, out.path, silent_progress()); });
  fs::remove_all(out.path.string() + ".tmp");
  std::ofstream(out.path / "photo.png") << "x";
  expect_error(ErrorKind::cannot_create, "holds 'photo.png', which is of no model",
               [&] { exporter->write(out.plan, model, out.path, silent_progress()); });
  EXPECT_TRUE(fs::exists(out.path / "photo.png"));
  EXPECT_FALSE(fs::exists(out.path.string() + ".tmp"));
}

}  // namespace
}  // namespace adze
