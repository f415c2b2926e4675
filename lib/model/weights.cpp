#include "model/weights.h"

#include <algorithm>
#include <cmath>

#include "base/checked.h"
#include "base/error.h"
#include "checkpoint/tensor_source.h"
#include "grid/kept_tensor.h"
#include "linalg/convert.h"

namespace adze {
namespace {

const TensorInfo& require(const TensorSource& source, const std::string& name) {
  const TensorInfo* tensor = source.find(name);
  if (!tensor) fail(ErrorKind::bad_data, "{}: tensor '{}' is missing", source.origin(), name);
  return *tensor;
}

std::string place_of(const TensorSource& source, const TensorInfo& tensor) {
  return fmt::format("{}: tensor '{}'", source.origin(), tensor.name);
}

ByteArray read_all(const TensorSource& source, const TensorInfo& tensor) {
  ByteArray bytes(checked_cast<std::size_t>(tensor.bytes));
  source.read(tensor, 0, bytes);
  return bytes;
}

/// Throws when a stored value is NaN or infinite.
void check_finite(DType dtype, std::span<const std::byte> bytes) {
  constexpr std::size_t kPiece = 16384;
  const std::size_t width = bytes_of(dtype);
  const std::size_t count = bytes.size() / width;
  std::vector<float> values(std::min(count, kPiece));
  for (std::size_t first = 0; first < count; first += kPiece) {
    const std::span<float> piece(values.data(), std::min(kPiece, count - first));
    to_float(dtype, bytes.subspan(first * width, piece.size() * width), piece);
    if (all_finite(piece)) continue;
    const auto at = std::ranges::find_if_not(piece, [](float value) { return std::isfinite(value); });
    fail(ErrorKind::bad_data, "non-finite value {} at element {}", *at,
         first + static_cast<std::size_t>(at - piece.begin()));
  }
}

}  // namespace

std::vector<float> gains_of_norm(const Architecture& architecture, std::span<const float> weights) {
  std::vector<float> gains(weights.begin(), weights.end());
  for (float& gain : gains) gain += architecture.info().norm_offset;
  return gains;
}

std::vector<float> norm_of_gains(const Architecture& architecture, std::span<const float> gains) {
  std::vector<float> weights(gains.begin(), gains.end());
  for (float& weight : weights) weight -= architecture.info().norm_offset;
  return weights;
}

TensorPtr ModelWeights::matrix_of(const TensorSpec& spec) const {
  if (spec.block) return matrix_in_block(spec);
  switch (spec.role) {
    case TensorRole::embedding:
      return embedding();
    case TensorRole::positions:
      return positions();
    case TensorRole::head:
      return head();
    default:
      fail(ErrorKind::internal, "tensor '{}' is no matrix and belongs to no block", spec.hf_name);
  }
}

std::vector<float> ModelWeights::vector_of(const TensorSpec& spec) const {
  if (spec.block) return vector_in_block(spec);
  return spec.role == TensorRole::bias ? final_norm_bias() : final_norm();
}

TensorPtr ModelWeights::matrix_in_block(const TensorSpec& spec) const {
  const BlockWeights whole = block(*spec.block);
  return spec.listed ? whole.listed.at(*spec.listed).tensor : whole[*spec.slot].weight;
}

std::vector<float> ModelWeights::vector_in_block(const TensorSpec& spec) const {
  const BlockWeights whole = block(*spec.block);
  if (spec.slot) return whole[*spec.slot].bias;
  return spec.role == TensorRole::bias ? whole.bias_of(*spec.norm) : whole[*spec.norm];
}

std::shared_ptr<const DenseTensor> load_matrix(const TensorSource& source, const TensorInfo& tensor) {
  return with_context(place_of(source, tensor), [&] {
    if (tensor.shape.size() != 2) fail(ErrorKind::bad_data, "{} dimensions instead of 2", tensor.shape.size());
    const Shape shape{checked_cast<std::size_t>(tensor.shape[0]), checked_cast<std::size_t>(tensor.shape[1])};
    auto dense = std::make_shared<const DenseTensor>(tensor.dtype, shape, read_all(source, tensor));
    check_finite(tensor.dtype, dense->payload());
    return dense;
  });
}

std::vector<float> load_vector(const TensorSource& source, const TensorInfo& tensor) {
  return with_context(place_of(source, tensor), [&] {
    if (tensor.shape.size() != 1) fail(ErrorKind::bad_data, "{} dimensions instead of 1", tensor.shape.size());
    const DenseTensor dense(tensor.dtype, {1, checked_cast<std::size_t>(tensor.shape[0])}, read_all(source, tensor));
    check_finite(tensor.dtype, dense.payload());
    std::vector<float> values(dense.shape().cols);
    dense.decode_rows(0, 1, values);
    return values;
  });
}

CheckpointWeights::CheckpointWeights(Architecture architecture, std::shared_ptr<const TensorSource> source)
    : architecture_(resolve_tying(std::move(architecture), *source)), source_(std::move(source)) {
  validate_tensors(architecture_, *source_);
}

TensorPtr CheckpointWeights::matrix(std::string_view module) const {
  return load_matrix(*source_, require(*source_, stored_name(architecture_, module) + ".weight"));
}

std::vector<float> CheckpointWeights::vector(std::string_view module, std::string_view suffix) const {
  return load_vector(*source_, require(*source_, fmt::format("{}.{}", stored_name(architecture_, module), suffix)));
}

TensorPtr CheckpointWeights::embedding() const { return matrix(kEmbeddingModule); }

TensorPtr CheckpointWeights::positions() const {
  return architecture_.learns_positions() ? matrix(kPositionsModule) : nullptr;
}

TensorPtr CheckpointWeights::listed(const TensorSpec& spec) const {
  const TensorInfo& tensor = require(*source_, spec.hf_name);
  if (spec.is_matrix()) return load_matrix(*source_, tensor);
  return std::make_shared<KeptTensor>(tensor.dtype, read_all(*source_, tensor));
}

BlockWeights CheckpointWeights::block(std::size_t index) const {
  if (architecture_.is_listed())
    return assemble_listed(architecture_, index, [&](const TensorSpec& spec) { return listed(spec); });
  return assemble_block(
      architecture_, index,
      [&](const NormInfo& info, std::string_view suffix) { return vector(module_name(index, info), suffix); },
      [&](const LinearInfo& info) {
        const std::string module = module_name(index, info);
        return Linear{matrix(module), info.has_bias ? vector(module, "bias") : std::vector<float>()};
      });
}

std::vector<float> CheckpointWeights::final_norm() const { return vector(kFinalNormModule, "weight"); }

std::vector<float> CheckpointWeights::final_norm_bias() const {
  const bool has_bias = architecture_.info().norm_kind == NormKind::layer;
  return has_bias ? vector(kFinalNormModule, "bias") : std::vector<float>();
}

std::optional<std::string> CheckpointWeights::format_of(const TensorSpec& spec) const {
  if (!spec.is_matrix()) return std::nullopt;
  return std::string(name_of(require(*source_, spec.hf_name).dtype));
}

TensorPtr CheckpointWeights::matrix_in_block(const TensorSpec& spec) const {
  return spec.listed ? listed(spec) : load_matrix(*source_, require(*source_, spec.hf_name));
}

std::vector<float> CheckpointWeights::vector_in_block(const TensorSpec& spec) const {
  return load_vector(*source_, require(*source_, spec.hf_name));
}

TensorPtr CheckpointWeights::head() const { return architecture_.tied ? embedding() : matrix(kHeadModule); }

}  // namespace adze
