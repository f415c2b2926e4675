// What the tests of this folder share: a model whose matrices are stored in any format, the demo checkpoint with its
// tokenizer, and plans over them.
#pragma once

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "checkpoint/checkpoint_testing.h"
#include "checkpoint/folder_files.h"
#include "checkpoint/gguf.h"
#include "export/exporter.h"
#include "grid/quantized_tensor.h"
#include "model/gguf_weights.h"
#include "model/memory_source.h"
#include "text/tokenizer.h"

namespace adze::testing {

using FormatOf = std::function<std::string(const TensorSpec&)>;

/// Round to nearest, in any format.
inline TensorPtr encode_as(const CompressedTensor& tensor, const std::string& format) {
  const MatrixF weights = tensor.decode();
  if (const auto dtype = dtype_from_name(format)) return std::make_shared<DenseTensor>(make_dense(weights, *dtype));
  Encoding encoding(grid_from_name(format), weights.shape());
  encoding.fit_all(weights, std::vector<float>(weights.cols(), 1.0f), ScaleRule::minmax);
  for (std::size_t r = 0; r < weights.rows(); ++r) encoding.round_row(r, weights.row(r));
  return encoding.finish();
}

/// `base` with every matrix stored as `format_of` says. `base` must outlive it.
class FormattedModel : public ModelWeights {
 public:
  FormattedModel(const ModelWeights& base, FormatOf format_of) : base_(base), format_of_(std::move(format_of)) {}

  const Architecture& architecture() const override { return base_.architecture(); }
  TensorPtr embedding() const override { return encode(TensorRole::embedding, base_.embedding()); }
  BlockWeights block(std::size_t index) const override {
    BlockWeights block = base_.block(index);
    for (const TensorSpec& spec : expected_tensors(architecture()))
      if (spec.block == index && spec.role == TensorRole::linear)
        block[*spec.slot].weight = encode_as(*block[*spec.slot].weight, format_of_(spec));
    return block;
  }
  std::vector<float> final_norm() const override { return base_.final_norm(); }
  TensorPtr head() const override { return architecture().tied ? embedding() : encode(TensorRole::head, base_.head()); }

 private:
  TensorPtr encode(TensorRole role, const TensorPtr& tensor) const {
    for (const TensorSpec& spec : expected_tensors(architecture()))
      if (spec.role == role) return encode_as(*tensor, format_of_(spec));
    return tensor;
  }

  const ModelWeights& base_;
  FormatOf format_of_;
};

inline FormatOf all_in(std::string format) {
  return [format = std::move(format)](const TensorSpec&) { return format; };
}
/// Linears of the blocks in one format, embedding and head in another.
inline FormatOf linears_in(std::string linears, std::string tables) {
  return [=](const TensorSpec& spec) { return spec.role == TensorRole::linear ? linears : tables; };
}

inline std::filesystem::path demo_folder() {
  return std::filesystem::path(ADZE_SOURCE_DIR) / "tests/models/demo-llama";
}

/// The demo checkpoint, opened once.
struct Demo {
  std::unique_ptr<ModelWeights> model = open_checkpoint_model(demo_folder());
  Tokenizer tokenizer = Tokenizer::from_file(demo_folder() / "tokenizer.json");
  std::vector<StoreFile> files = read_folder_files(demo_folder());
};
inline const Demo& demo() {
  static const Demo instance;
  return instance;
}

/// Grouped queries, biases everywhere, an untied head, heads wider than the model, a few rows more than the demo's
/// tokenizer has tokens.
inline Architecture rich_architecture() {
  Architecture a;
  a.hidden = 256;
  a.ffn = 512;
  a.layers = 2;
  a.heads = 4;
  a.kv_heads = 2;
  a.head_dim = 128;
  a.vocab = 4100;
  a.max_positions = 64;
  a.norm_eps = 1e-5;
  a.qkv_bias = a.o_bias = a.mlp_bias = true;
  return a;
}

/// Plan of a model with the demo's tokenizer.
inline ExportPlan plan_of(const ModelWeights& model) {
  return {model.architecture(), planned_tensors(model), &demo().tokenizer, demo().files, "test model", {}};
}

/// Exports to `path` with the exporter "gguf".
inline void export_gguf(const ModelWeights& model, const std::filesystem::path& path) {
  find_exporter("gguf")->make()->write(plan_of(model), model, path, silent_progress());
}

inline std::vector<std::byte> tensor_bytes(const GgufFile& file, std::string_view name) {
  const GgufTensor* const tensor = file.find_tensor(name);
  std::vector<std::byte> bytes(tensor->bytes);
  file.read(*tensor, 0, bytes);
  return bytes;
}

}  // namespace adze::testing
