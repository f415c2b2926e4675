// Exports take tensors one by one: none of them loads a block, and one by one they are those of their blocks.
#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <ostream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "export/compare_models.h"
#include "export/export_testing.h"
#include "export/tensor_walk.h"
#include "model/compressed_store.h"
#include "model/gguf_weights.h"
#include "model/onnx/onnx_weights.h"
#include "model/pack/pack_weights.h"
#include "model/packed/packed_weights.h"
#include "model/random_checkpoint.h"

namespace adze {
namespace {

using namespace testing;
namespace fs = std::filesystem;

constexpr std::uint64_t kSeed = 31;

/// Of a block that is loaded whole.
TensorValues in_block(const BlockWeights& block, const TensorSpec& spec) {
  if (spec.is_matrix()) return {block[*spec.slot].weight, {}};
  if (spec.slot) return {nullptr, block[*spec.slot].bias};
  return {nullptr, spec.role == TensorRole::bias ? block.bias_of(*spec.norm) : block[*spec.norm]};
}

void expect_same(const TensorValues& actual, const TensorValues& expected) {
  EXPECT_EQ(actual.format(), expected.format());
  EXPECT_FALSE(actual.payload().empty());
  EXPECT_TRUE(same_bytes(actual.payload(), expected.payload()));
}

void expect_blocks(const ModelWeights& model) {
  TensorWalk walk(model);
  for (std::size_t index = 0; index < model.architecture().layers; ++index) {
    const BlockWeights block = model.block(index);
    for (const TensorSpec& spec : tensors_of_block(model.architecture(), index)) {
      SCOPED_TRACE(spec.hf_name);
      expect_same(walk.at(spec), in_block(block, spec));
    }
  }
}

void write_store(const ModelWeights& model, std::span<const StoreFile> files, const fs::path& folder) {
  for (std::size_t block = 0; block < model.architecture().layers; ++block)
    write_block_file(folder / block_file_name(block), model.block(block), model.architecture());
  write_outer_file(folder / kOuterFileName, files, outer_tensors(model));
}

void export_to(const std::string& exporter, const ModelWeights& model, std::span<const StoreFile> files,
               const fs::path& out) {
  const ExportPlan plan{
      model.architecture(), planned_tensors(model), &demo().tokenizer, {files.begin(), files.end()}, "test", {}};
  find_exporter(exporter)->make()->write(plan, model, out, silent_progress());
}

class FamiliesOneByOne : public ::testing::TestWithParam<FamilyCase> {};

TEST_P(FamiliesOneByOne, AreThoseOfTheirBlocks) {
  const TempFolder folder;
  const fs::path checkpoint = write_random_checkpoint(folder / "checkpoint", GetParam().config, kSeed);
  const auto model = open_checkpoint_model(checkpoint);
  const std::vector<StoreFile> files = read_folder_files(checkpoint);
  expect_blocks(*model);

  fs::create_directory(folder / "store");
  write_store(*model, files, folder / "store");
  expect_blocks(CompressedStore(folder / "store"));
  export_to("pack", *model, files, folder / "model.adzepack");
  expect_blocks(PackWeights(folder / "model.adzepack"));
  export_to("onnx", *model, files, folder / "onnx");
  expect_blocks(OnnxWeights(folder / "onnx"));
  if (GetParam().name == "opt") return;  // no GGUF can say it
  export_to("gguf", *model, files, folder / "model.gguf");
  expect_blocks(GgufWeights(folder / "model.gguf"));
}

INSTANTIATE_TEST_SUITE_P(OfFamilies, FamiliesOneByOne, ::testing::ValuesIn(family_cases()),
                         [](const auto& made) { return made.param.name; });

/// Makes the first value of a norm, which every format stores as it is, NaN; where a file has it.
void spoil_norm(const fs::path& path, std::span<const float> norm) {
  std::string text = read_file(path);
  const std::string_view bytes(reinterpret_cast<const char*>(norm.data()), norm.size_bytes());
  const std::size_t at = text.find(bytes);
  ASSERT_NE(at, std::string::npos) << path;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::memcpy(text.data() + at, &nan, sizeof nan);
  std::ofstream(path, std::ios::binary) << text;
}

/// What else lies in block 0 cannot be read.
void expect_alone(const ModelWeights& model, const TensorSpec& spec) {
  EXPECT_THROW(model.block(0), Error);
  EXPECT_FALSE(model.matrix_of(spec)->payload().empty());
}

TEST(TensorsOneByOne, AreReadWithoutTheRestOfTheirBlock) {
  const TempFolder folder;
  const fs::path checkpoint = write_random_checkpoint(folder / "checkpoint", family_case("llama").config, kSeed);
  const auto model = open_checkpoint_model(checkpoint);
  const std::vector<StoreFile> files = read_folder_files(checkpoint);
  const std::vector<float> norm = model->block(0)[NormSlot::before_ffn];
  const std::vector<TensorSpec> specs = expected_tensors(model->architecture());
  const TensorSpec& q = *std::ranges::find(specs, "layers.0.self_attn.q_proj", &TensorSpec::module);

  fs::create_directory(folder / "store");
  write_store(*model, files, folder / "store");
  const CompressedStore store(folder / "store");
  store.block(0);  // opened and checked
  const fs::path block = folder / "store" / block_file_name(0);
  fs::resize_file(block, fs::file_size(block) / 2);  // the FFN's matrices are the last
  expect_alone(store, q);

  export_to("pack", *model, files, folder / "model.adzepack");
  spoil_norm(folder / "model.adzepack", norm);
  expect_alone(PackWeights(folder / "model.adzepack"), q);
  export_to("onnx", *model, files, folder / "onnx");
  spoil_norm(folder / "onnx/model.onnx_data", norm);
  expect_alone(OnnxWeights(folder / "onnx"), q);
  export_to("gguf", *model, files, folder / "model.gguf");
  spoil_norm(folder / "model.gguf", norm);
  expect_alone(GgufWeights(folder / "model.gguf"), q);
  export_to("gptq", FormattedModel(*model, linears_in("int4 g32 sym", "f32")), files, folder / "gptq");
  spoil_norm(folder / "gptq/model.safetensors", norm);
  expect_alone(PackedWeights(folder / "gptq"), q);
  spoil_norm(checkpoint / "model.safetensors", norm);
  expect_alone(*open_checkpoint_model(checkpoint), q);
}

/// A model that is never asked for a block; counts what is loaded of them.
class WithoutBlocks final : public ModelWeights {
 public:
  explicit WithoutBlocks(const ModelWeights& model) : model_(model) {}

  const Architecture& architecture() const override { return model_.architecture(); }
  TensorPtr embedding() const override { return model_.embedding(); }
  TensorPtr head() const override { return model_.head(); }
  std::vector<float> final_norm() const override { return model_.final_norm(); }
  std::optional<CacheMaxima> cache_of(std::size_t) const override { return std::nullopt; }
  BlockWeights block(std::size_t index) const override {
    fail(ErrorKind::internal, "block {} was loaded whole", index);
  }

  mutable std::atomic<std::size_t> loaded = 0;
  std::string unreadable;  ///< name of a tensor

 private:
  TensorPtr matrix_in_block(const TensorSpec& spec) const override {
    if (spec.hf_name == unreadable) fail(ErrorKind::io, "cannot be read");
    ++loaded;
    return model_.matrix_of(spec);
  }
  std::vector<float> vector_in_block(const TensorSpec& spec) const override { return model_.vector_of(spec); }

  const ModelWeights& model_;
};

struct FormatCase {
  const char* exporter;
  const char* format;
  const char* out;
};
void PrintTo(const FormatCase& c, std::ostream* out) { *out << c.exporter; }

class ExportsOneByOne : public ::testing::TestWithParam<FormatCase> {};

TEST_P(ExportsOneByOne, LoadNoBlock) {
  const FormattedModel model(*demo().model, linears_in(GetParam().format, "f16"));
  const WithoutBlocks watched(model);
  const TempFolder folder;
  export_to(GetParam().exporter, watched, demo().files, folder / GetParam().out);
  EXPECT_GT(watched.loaded, 0U);
}

INSTANTIATE_TEST_SUITE_P(
    OfFormats, ExportsOneByOne,
    ::testing::Values(FormatCase{"gguf", "gguf/q4_0", "out.gguf"}, FormatCase{"pack", "int4 g64 sym", "out.adzepack"},
                      FormatCase{"pack-entropy", "int4 g64 sym", "out.adzepack"},
                      FormatCase{"safetensors", "int4 g64 sym", "out"},
                      FormatCase{"compressed-tensors", "int4 g64 sym", "out"},
                      FormatCase{"gptq", "int4 g64 sym", "out"}, FormatCase{"awq", "int4 g64 asym", "out"},
                      FormatCase{"mlx", "int4 g64 sym", "out"}, FormatCase{"onnx", "int4 g64 sym", "out"},
                      FormatCase{"onnx-qdq", "int4 g64 sym", "out"}),
    [](const auto& made) {
      std::string name = made.param.exporter;
      std::ranges::replace(name, '-', '_');
      return name;
    });

const ModelWeights& base() {
  static const CheckpointWeights model = random_model(rich_architecture());
  return model;
}

TEST(TensorWalk, EveryMatrixIsReadOnceInTheOrderThatIsExpected) {
  const WithoutBlocks watched(base());
  const std::vector<TensorSpec> specs = expected_tensors(watched.architecture());
  const auto in_blocks =
      std::ranges::count_if(specs, [](const TensorSpec& spec) { return spec.block && spec.is_matrix(); });
  TensorWalk walk(watched, specs);
  for (const TensorSpec& spec : specs)
    for (int part = 0; part < 3; ++part) walk.at(spec);
  EXPECT_EQ(watched.loaded, static_cast<std::size_t>(in_blocks));
}

TEST(TensorWalk, AnotherOrderGivesTheSame) {
  std::vector<TensorSpec> specs = expected_tensors(base().architecture());
  TensorWalk walk(base(), specs);
  std::ranges::reverse(specs);
  for (const TensorSpec& spec : specs) {
    SCOPED_TRACE(spec.hf_name);
    expect_same(walk.at(spec), TensorWalk(base()).at(spec));
  }
}

TEST(TensorWalk, WhatCannotBeReadFailsWhenItIsAskedFor) {
  const std::vector<TensorSpec> specs = expected_tensors(base().architecture());
  WithoutBlocks watched(base());
  watched.unreadable = "model.layers.1.self_attn.k_proj.weight";
  TensorWalk walk(watched, specs);
  for (const TensorSpec& spec : specs)
    if (spec.hf_name == watched.unreadable)
      expect_error(ErrorKind::io, "cannot be read", [&] { walk.at(spec); });
    else
      EXPECT_NO_THROW(walk.at(spec)) << spec.hf_name;
}

}  // namespace
}  // namespace adze
