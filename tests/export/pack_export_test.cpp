// The exporter "pack": every format comes back with its bytes, and sizes are those that were promised.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>

#include "export/export_testing.h"
#include "grid/any_format.h"
#include "grid/factors/shared_tensor.h"
#include "model/pack/pack_weights.h"
#include "pack_c/adze_pack.h"

namespace adze {
namespace {

using namespace testing;
using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
namespace fs = std::filesystem;

/// Square matrices that divide into every block, biases everywhere, an untied head.
Architecture square_architecture(std::size_t layers = 1) {
  Architecture a;
  a.hidden = a.ffn = a.vocab = 256;
  a.layers = layers;
  a.heads = a.kv_heads = 2;
  a.head_dim = 128;
  a.max_positions = 64;
  a.norm_eps = 1e-5;
  a.qkv_bias = a.o_bias = a.mlp_bias = true;
  return a;
}

std::vector<StoreFile> square_files() {
  return {{"config.json",
           R"({"model_type": "llama", "hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 1,
               "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 128, "vocab_size": 256,
               "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "max_position_embeddings": 64, "hidden_act": "silu",
               "tie_word_embeddings": false, "attention_bias": true, "mlp_bias": true})"},
          {"tokenizer.json", "{}"},
          {"empty", ""}};
}

/// Random matrices in formats that a function chooses.
class AnyModel final : public ModelWeights {
 public:
  AnyModel(Architecture architecture, FormatOf format_of)
      : architecture_(std::move(architecture)), format_of_(std::move(format_of)) {}

  const Architecture& architecture() const override { return architecture_; }
  TensorPtr embedding() const override { return matrix("embed_tokens"); }
  TensorPtr head() const override { return architecture_.tied ? embedding() : matrix("lm_head"); }
  std::vector<float> final_norm() const override { return random_values(architecture_.hidden, "norm"); }
  BlockWeights block(std::size_t index) const override {
    BlockWeights block;
    const std::string prefix = "layers." + std::to_string(index);
    block[NormSlot::before_attention] = random_values(architecture_.hidden, prefix + "in");
    block[NormSlot::before_ffn] = random_values(architecture_.hidden, prefix + "post");
    for (const LinearInfo& info : block_linears(architecture_)) {
      block[info.slot].weight = matrix(module_name(index, info));
      if (info.has_bias) block[info.slot].bias = random_values(info.shape.rows, module_name(index, info) + "b");
    }
    return block;
  }

 private:
  TensorPtr matrix(const std::string& module) const {
    for (const TensorSpec& spec : expected_tensors(architecture_))
      if (spec.module == module && spec.shape.size() == 2) return made(spec, module);
    return nullptr;
  }
  TensorPtr made(const TensorSpec& spec, const std::string& module) const {
    TensorPtr& tensor = made_[module];  // asked for again and again
    if (!tensor) tensor = grid_testing::random_tensor(format_of_(spec), {spec.shape[0], spec.shape[1]}, module);
    return tensor;
  }

  Architecture architecture_;
  FormatOf format_of_;
  mutable std::map<std::string, TensorPtr> made_;
};

struct Exported {
  explicit Exported(const ModelWeights& model, std::vector<StoreFile> kept = square_files(),
                    std::string_view format = "pack")
      : files(std::move(kept)),
        plan{model.architecture(),
             planned_tensors(model),
             nullptr,
             files,
             "test model",
             {{"adze.version", "1"}, {"adze.recipe", "abc"}, {"adze.calibration", ""}}},
        path(folder / "model.adze") {
    const auto exporter = find_exporter(format)->make();
    predicted = exporter->predict_bytes(plan);
    EXPECT_THAT(exporter->files(plan, path), ElementsAre(path));
    exporter->write(plan, model, path, silent_progress());
  }

  TempFolder folder;
  std::vector<StoreFile> files;
  ExportPlan plan;
  fs::path path;
  std::uint64_t predicted = 0;
};

void expect_same(const ModelWeights& left, const ModelWeights& right) {
  const auto same = [](const CompressedTensor& a, const CompressedTensor& b) {
    EXPECT_EQ(a.format(), b.format());
    EXPECT_THAT(a.payload(), ElementsAreArray(b.payload()));
  };
  same(*left.embedding(), *right.embedding());
  same(*left.head(), *right.head());
  EXPECT_EQ(left.final_norm(), right.final_norm());
  ASSERT_EQ(left.architecture().layers, right.architecture().layers);
  for (std::size_t b = 0; b < left.architecture().layers; ++b) {
    const BlockWeights a = left.block(b), c = right.block(b);
    EXPECT_EQ(a[NormSlot::before_attention], c[NormSlot::before_attention]);
    EXPECT_EQ(a[NormSlot::before_ffn], c[NormSlot::before_ffn]);
    for (const LinearInfo& info : block_linears(left.architecture())) {
      same(*a[info.slot].weight, *c[info.slot].weight);
      EXPECT_EQ(a[info.slot].bias, c[info.slot].bias);
    }
  }
}

/// A list of formats dealt out to the matrices of as many models as that takes.
std::vector<FormatOf> dealt(const std::vector<std::string>& formats) {
  std::vector<FormatOf> models;
  constexpr std::size_t kMatrices = 9;
  for (std::size_t first = 0; first < formats.size(); first += kMatrices) {
    std::map<std::string, std::string> of;
    std::size_t next = first;
    for (const TensorSpec& spec : expected_tensors(square_architecture()))
      if (spec.shape.size() == 2) of[spec.module] = formats[next++ % formats.size()];
    models.push_back([of](const TensorSpec& spec) { return of.at(spec.module); });
  }
  return models;
}

void expect_round_trips(const std::vector<std::string>& formats) {
  for (const FormatOf& format_of : dealt(formats)) {
    const AnyModel model(square_architecture(), format_of);
    const Exported out(model);
    EXPECT_EQ(out.predicted, fs::file_size(out.path));
    const PackWeights written(out.path);
    expect_same(written, model);
    EXPECT_EQ(written.pack().manifest().provenance,
              (std::vector<std::pair<std::string, std::string>>{{"adze.version", "1"}, {"adze.recipe", "abc"}}));
    EXPECT_EQ(written.pack().manifest().name, "test model");
    ASSERT_EQ(written.files().size(), 3u);
    EXPECT_EQ(written.files()[0].text, out.files[0].text);
    EXPECT_EQ(written.files()[2].text, "");
  }
}

TEST(PackExport, EveryGridComesBackWithItsBytes) { expect_round_trips(grid_testing::grid_formats()); }
TEST(PackExport, EveryPatternComesBackWithItsBytes) {
  const std::vector<std::string> all = grid_testing::sparse_formats();
  std::vector<std::string> some;  // each grid and each pattern, not each pair
  for (std::size_t i = 0; i < all.size(); i += 3) some.push_back(all[i]);
  expect_round_trips(some);
}
TEST(PackExport, TensorsMadeOfOthersComeBackWithTheirBytes) { expect_round_trips(grid_testing::composed_formats()); }

/// Block 1 borrows the right factor of block 0's q.
class SharingModel final : public ModelWeights {
 public:
  SharingModel() : base_(square_architecture(2), all_in("rank 16 [f16] [f16]")) {}
  const Architecture& architecture() const override { return base_.architecture(); }
  TensorPtr embedding() const override { return base_.embedding(); }
  TensorPtr head() const override { return base_.head(); }
  std::vector<float> final_norm() const override { return base_.final_norm(); }
  BlockWeights block(std::size_t index) const override {
    BlockWeights block = base_.block(index);
    if (index == 0) return block;
    const TensorPtr first = base_.block(0)[LinearSlot::q].weight;
    const auto& owner = dynamic_cast<const ProductTensor&>(*first);
    block[LinearSlot::k].weight = std::make_shared<ProductTensor>(
        grid_testing::random_tensor("f16", {256, 16}, "left"),
        std::make_shared<SharedTensor>("layers.0.self_attn.q_proj", owner.right_part()));
    return block;
  }

 private:
  AnyModel base_;
};

TEST(PackExport, SharedFactorsAreFoundInTheTensorThatHasThem) {
  const SharingModel model;
  const Exported out(model, {});
  EXPECT_EQ(out.predicted, fs::file_size(out.path));
  const PackWeights written(out.path);
  expect_same(written, model);
  EXPECT_EQ(written.block(1)[LinearSlot::k].weight->decode(), model.block(1)[LinearSlot::k].weight->decode());
}

TEST(PackExport, ACheckpointOfFloatsIsReadBackAsOne) {
  const Architecture a = [] {
    Architecture made = rich_architecture();
    made.tied = true;
    made.rope = {500000.0, RopeKind::llama3, 8.0, 1.0, 4.0, 32};
    made.bos_id = 1;
    made.eos_ids = {2, 3};
    return made;
  }();
  const CheckpointWeights model = random_model(a, DType::bf16);
  const Exported out(model, {});
  const auto written = std::make_shared<PackWeights>(out.path);
  Architecture meant = model.architecture();
  meant.tied_stated = false;
  EXPECT_EQ(written->architecture(), meant);
  const PackSource source(written);
  const CheckpointWeights again(written->architecture(), std::make_shared<PackSource>(written));
  expect_same(again, *written);
}

std::vector<std::string> every_kind_of_format() {
  std::vector<std::string> formats = grid_testing::grid_formats();
  for (const auto& more : {grid_testing::sparse_formats(), grid_testing::composed_formats()})
    for (std::size_t i = 0; i < more.size(); i += 4) formats.push_back(more[i]);
  for (const char* const floats : {"f16", "bf16", "f32"}) formats.emplace_back(floats);
  return formats;
}

/// What coding does is lossless, and where it does not pay nothing is coded.
TEST(PackEntropy, EveryKindOfTensorComesBackWithItsBytesAndNoneGrows) {
  std::size_t coded = 0;
  for (const FormatOf& format_of : dealt(every_kind_of_format())) {
    const AnyModel model(square_architecture(), format_of);
    const Exported out(model, square_files(), "pack-entropy"), raw(model);
    EXPECT_LE(fs::file_size(out.path), out.predicted);
    EXPECT_LE(fs::file_size(out.path), fs::file_size(raw.path) + 512);
    const PackWeights written(out.path);
    expect_same(written, model);
    for (const PackTensor& tensor : written.pack().manifest().tensors) {
      if (tensor.encoding == PackEncoding::raw)
        EXPECT_EQ(tensor.region.bytes, tensor.payload_bytes());
      else
        EXPECT_LT(tensor.region.bytes, tensor.payload_bytes());
      coded += tensor.encoding == PackEncoding::rans;
    }
  }
  EXPECT_GT(coded, 10u);
}

TEST(PackEntropy, SaysHowFarCodesAreFromTheirEntropy) {
  const AnyModel model(square_architecture(), all_in("int4 g64 sym"));
  const Exported out(model, square_files(), "pack-entropy"), again(model, square_files(), "pack-entropy");
  EXPECT_EQ(read_file(out.path), read_file(again.path));
  const PackWeights written(out.path);
  const auto& [key, words] = written.pack().manifest().provenance.back();
  EXPECT_EQ(key, "adze.entropy");
  EXPECT_THAT(words, ::testing::ContainsRegex("3\\.[0-9]+ bits a code of 4.000; entropy 3\\.[0-9]+, given"));
}

TEST(PackEntropy, CodedFloatsAreReadAsFloats) {
  const CheckpointWeights model = random_model(rich_architecture(), DType::bf16);
  const Exported out(model, {}, "pack-entropy");
  const auto written = std::make_shared<PackWeights>(out.path);
  EXPECT_EQ(written->pack().find("lm_head.weight")->encoding, PackEncoding::rans);
  const CheckpointWeights again(written->architecture(), std::make_shared<PackSource>(written));
  expect_same(again, model);
}

/// Checksums aside, what is coded is refused when it is not what was written.
TEST(PackEntropy, DamageIsNamedAndTheReaderInCRefusesTheEncoding) {
  const AnyModel model(square_architecture(), all_in("int4 g64 sym"));
  const Exported out(model, square_files(), "pack-entropy");
  adze_pack_error error{};
  EXPECT_EQ(adze_pack_open(out.path.c_str(), &error), nullptr);
  EXPECT_THAT(std::string(error.message),
              ::testing::HasSubstr("is entropy-coded (rans), which this reader does not decode"));
  const PackTensor tensor = *PackWeights(out.path).pack().find("model.layers.0.mlp.up_proj.weight");
  std::string bytes = read_file(out.path);
  const PackWeights whole(out.path);
  bytes[whole.pack().manifest().data_start + tensor.region.offset + 500] ^= 0x20;
  std::ofstream(out.path, std::ios::binary) << bytes;
  expect_error(ErrorKind::bad_data, "up_proj.weight': bytes 0 to", [&] { PackWeights(out.path).block(0); });
}

TEST(PackSource, DecodesRowsWhereverItIsRead) {
  const AnyModel model(square_architecture(), all_in("int4 g64 asym"));
  const Exported out(model);
  const PackSource source(std::make_shared<PackWeights>(out.path));
  const TensorInfo& info = *source.find("model.layers.0.mlp.up_proj.weight");
  EXPECT_EQ(info.dtype, DType::f32);
  const MatrixF meant = model.block(0)[LinearSlot::up].weight->decode();
  std::vector<float> values(700);
  source.read(info, 4 * 300, std::as_writable_bytes(std::span(values)));
  EXPECT_TRUE(std::equal(values.begin(), values.end(), meant.values().begin() + 300));
  EXPECT_THROW(source.read(info, info.bytes - 4, std::as_writable_bytes(std::span(values))), Error);
}

TEST(PackExport, TheSameModelGivesTheSameBytes) {
  const AnyModel model(square_architecture(), all_in("int4 g64 sym, 2:4"));
  EXPECT_EQ(read_file(Exported(model).path), read_file(Exported(model).path));
}

/// Files of the first version, one with each kind of format, stay readable; and what is read is written again as it
/// was.
TEST(PackExport, OldFilesStayReadableAndAreWrittenAlike) {
  std::size_t files = 0;
  for (const auto& entry : fs::directory_iterator(fs::path(ADZE_SOURCE_DIR) / "tests/fuzz/corpus/pack")) {
    SCOPED_TRACE(entry.path().filename());
    if (PackFile(entry.path()).manifest().base) continue;  // a delta is not exported without its base
    const PackWeights old(entry.path());
    const std::vector<StoreFile> kept = old.files();
    const PackManifest& manifest = old.pack().manifest();
    const ExportPlan plan{old.architecture(), planned_tensors(old), nullptr, kept, manifest.name, manifest.provenance};
    const TempFolder folder;
    find_exporter("pack")->make()->write(plan, old, folder / "new.adze", silent_progress());
    EXPECT_TRUE(read_file(folder / "new.adze") == read_file(entry.path()));
    ++files;
  }
  EXPECT_GE(files, 3u);
}

TEST(PackExport, RefusesToBeSplitAndAConfigOfAnotherModel) {
  const AnyModel model(square_architecture(), all_in("f16"));
  Exported out(model);
  const auto exporter = find_exporter("pack")->make();
  out.plan.split_max_bytes = 1000;
  expect_error(ErrorKind::bad_data, "cannot be split", [&] { exporter->predict_bytes(out.plan); });
  out.plan.split_max_bytes = 0;
  std::string& config = out.files[0].text;
  config.replace(config.find("\"vocab_size\": 256"), 17, "\"vocab_size\": 255");
  expect_error(ErrorKind::bad_data, "another architecture", [&] { exporter->predict_bytes(out.plan); });
  const fs::path other = out.folder / "other.adze";
  expect_error(ErrorKind::bad_data, "another architecture",
               [&] { exporter->write(out.plan, model, other, silent_progress()); });
  for (const auto& entry : fs::directory_iterator(out.folder.path())) EXPECT_EQ(entry.path(), out.path);
}

}  // namespace
}  // namespace adze
