#include "export/gguf/verify.h"

#include <algorithm>

#include "base/checked.h"
#include "base/error.h"
#include "base/parallel.h"
#include "export/tensor_walk.h"
#include "model/gguf_weights.h"

namespace adze {
namespace {

void compare_header(const GgufFile& file, const GgufContent& content) {
  const auto stored = file.metadata();
  for (std::size_t i = 0; i < std::max(stored.size(), content.metadata.size()); ++i)
    if (i >= stored.size() || i >= content.metadata.size() || stored[i] != content.metadata[i])
      fail(ErrorKind::internal, "key {} differs from what was meant ('{}')", i,
           i < content.metadata.size() ? content.metadata[i].key : "none");
  const auto tensors = file.tensors();
  if (tensors.size() != content.tensors.size())
    fail(ErrorKind::internal, "{} tensors instead of {}", tensors.size(), content.tensors.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const GgufTensorSpec& meant = content.tensors[i];
    if (tensors[i].name != meant.name || tensors[i].type->id != meant.type || tensors[i].dims != meant.dims)
      fail(ErrorKind::internal, "tensor '{}' differs in name, type or shape from '{}'", tensors[i].name, meant.name);
  }
}

/// What a GGUF does not say: the family of two with the same GGUF name, a window that the runtime does not have, and
/// end-of-text tokens after the first.
void compare_architecture(const Architecture& written, Architecture meant) {
  meant.family = written.family;
  meant.sliding_window = written.sliding_window;
  meant.tied_stated = written.tied_stated;
  meant.bos_id = written.bos_id;
  meant.eos_ids = written.eos_ids;
  meant.norm_eps = static_cast<float>(meant.norm_eps);
  Architecture rounded = written;
  rounded.norm_eps = static_cast<float>(written.norm_eps);
  for (RopeSpec* const rope : {&meant.rope, &rounded.rope})
    for (double* const value : {&rope->theta, &rope->factor, &rope->low_freq_factor, &rope->high_freq_factor})
      *value = static_cast<float>(*value);
  if (rounded != meant) fail(ErrorKind::internal, "the settings that were written describe another architecture");
}

struct Difference {
  std::size_t row = 0, col = 0;
  float written = 0, meant = 0;
};

std::optional<Difference> first_difference(const CompressedTensor& written, const CompressedTensor& meant,
                                           std::size_t first, std::size_t count) {
  const std::size_t cols = meant.shape().cols;
  std::vector<float> left(count * cols), right(count * cols);
  written.decode_rows(first, count, left);
  meant.decode_rows(first, count, right);
  const auto [l, r] = std::ranges::mismatch(left, right);
  if (l == left.end()) return std::nullopt;
  const auto at = static_cast<std::size_t>(l - left.begin());
  return Difference{first + at / cols, at % cols, *l, *r};
}

void compare_matrices(const CompressedTensor& written, const CompressedTensor& meant) {
  constexpr std::size_t kTileRows = 64;
  const Shape shape = meant.shape();
  if (written.shape() != shape) fail(ErrorKind::internal, "another shape");
  std::vector<std::optional<Difference>> differences(divide_up(shape.rows, kTileRows));
  parallel_for(differences.size(), [&](std::size_t tile) {
    const std::size_t first = tile * kTileRows;
    differences[tile] = first_difference(written, meant, first, std::min(kTileRows, shape.rows - first));
  });
  for (const auto& difference : differences)
    if (difference)
      fail(ErrorKind::internal, "row {}, column {} is {} in the file and {} in the model", difference->row,
           difference->col, difference->written, difference->meant);
}

void compare_vectors(std::span<const float> written, std::span<const float> meant) {
  const auto [l, r] = std::ranges::mismatch(written, meant);
  if (l == written.end() && r == meant.end()) return;
  if (l == written.end() || r == meant.end())
    fail(ErrorKind::internal, "{} values in the file and {} in the model", written.size(), meant.size());
  fail(ErrorKind::internal, "element {} is {} in the file and {} in the model", l - written.begin(), *l, *r);
}

void compare_weights(const ModelWeights& written, const ExportPlan& plan, const ModelWeights& model,
                     Progress& progress) {
  TensorWalk in_file(written);
  TensorWalk in_model(model);
  progress.start("verifying", plan.tensors.size());
  for (std::size_t i = 0; i < plan.tensors.size(); ++i) {
    const TensorSpec& spec = plan.tensors[i].spec;
    const TensorValues left = in_file.at(spec);
    const TensorValues right = in_model.at(spec);
    with_context(fmt::format("tensor '{}'", spec.gguf_name), [&] {
      if (right.matrix) return compare_matrices(*left.matrix, *right.matrix);
      compare_vectors(left.vector, right.vector);
    });
    progress.update(i + 1);
  }
}

}  // namespace

void verify_gguf(const std::filesystem::path& path, const ExportPlan& plan, const GgufContent& content,
                 const ModelWeights& model, Progress& progress) {
  with_context(path.string(), [&] { compare_header(GgufFile(path), content); });
  const GgufWeights written(path);
  with_context(path.string(), [&] {
    compare_architecture(written.architecture(), plan.architecture);
    compare_weights(written, plan, model, progress);
  });
}

}  // namespace adze
