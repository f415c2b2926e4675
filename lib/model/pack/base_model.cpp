#include "model/pack/base_model.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/hash.h"
#include "model/tensors.h"

namespace adze {
namespace {

constexpr std::size_t kTileFloats = std::size_t{1} << 20;

std::string in_words(const TensorSpec& spec) {
  return fmt::format("'{}', {}", spec.hf_name, fmt::join(spec.shape, " x "));
}

}  // namespace

std::string tensor_hash(const std::string& name, const CompressedTensor& values) {
  const auto [rows, cols] = values.shape();
  Hasher hasher;
  hasher.add(fmt::format("{} {} x {}\n", name, rows, cols));
  const std::size_t tile_rows = std::max<std::size_t>(1, kTileFloats / std::max<std::size_t>(1, cols));
  std::vector<float> tile;
  for (std::size_t first = 0; first < rows; first += tile_rows) {
    tile.resize(std::min(tile_rows, rows - first) * cols);
    values.decode_rows(first, tile.size() / std::max<std::size_t>(1, cols), tile);
    hasher.add(std::as_bytes(std::span(tile)));
  }
  return hasher.hex();
}

TensorPtr load_tensor(const TensorSource& source, const std::string& name, Shape shape) {
  const TensorInfo* const info = source.find(name);
  if (info == nullptr) fail(ErrorKind::bad_data, "{}: has no tensor '{}'", source.origin(), name);
  if (info->shape.size() == 2) {
    TensorPtr matrix = load_matrix(source, *info);
    if (matrix->shape() == shape) return matrix;
  } else if (info->shape.size() == 1 && shape == Shape{1, checked_cast<std::size_t>(info->shape[0])}) {
    MatrixF row(shape);
    std::ranges::copy(load_vector(source, *info), row.values().begin());
    return std::make_shared<DenseTensor>(make_dense(row, DType::f32));
  }
  fail(ErrorKind::bad_data, "{}: tensor '{}' is {}, not {} x {}", source.origin(), name, fmt::join(info->shape, " x "),
       shape.rows, shape.cols);
}

std::string structure_difference(const Architecture& one, const Architecture& other) {
  const struct {
    const char* name;
    std::size_t one, other;
  } sizes[] = {{"hidden", one.hidden, other.hidden},       {"ffn", one.ffn, other.ffn},
               {"layers", one.layers, other.layers},       {"heads", one.heads, other.heads},
               {"kv_heads", one.kv_heads, other.kv_heads}, {"head_dim", one.head_dim, other.head_dim},
               {"vocab", one.vocab, other.vocab},          {"tied", one.tied, other.tied},
               {"qkv_bias", one.qkv_bias, other.qkv_bias}, {"o_bias", one.o_bias, other.o_bias},
               {"mlp_bias", one.mlp_bias, other.mlp_bias}};
  for (const auto& size : sizes)
    if (size.one != size.other) return fmt::format("{} is {} and {}", size.name, size.one, size.other);
  const std::vector<TensorSpec> ours = expected_tensors(one), theirs = expected_tensors(other);
  const auto same = [](const TensorSpec& a, const TensorSpec& b) {
    return a.hf_name == b.hf_name && a.shape == b.shape;
  };
  const auto [at, in_other] = std::ranges::mismatch(ours, theirs, same);
  if (at == ours.end() && in_other == theirs.end()) return "";
  if (at == ours.end() || in_other == theirs.end()) return fmt::format("{} and {} tensors", ours.size(), theirs.size());
  return fmt::format("{} and {}", in_words(*at), in_words(*in_other));
}

TensorPtr BaseModel::tensor(const PackManifest& pack, const PackTensor& tensor) const {
  TensorPtr values = load_tensor(*source, tensor.name, tensor.matrix_shape());
  if (const std::string hash = tensor_hash(tensor.name, *values); hash != tensor.base_hash)
    fail(ErrorKind::bad_data,
         "{} is not the base of this delta, which is '{}': its tensor '{}' has values of hash {} instead of {}", origin,
         pack.base->name, tensor.name, hash, tensor.base_hash);
  return values;
}

void BaseModel::check(const PackManifest& pack) const {
  if (const std::string difference = structure_difference(pack.architecture, architecture); !difference.empty())
    fail(ErrorKind::bad_data, "{} is not the base of this delta, which is '{}': {}", origin, pack.base->name,
         difference);
  for (const PackTensor& vector : pack.tensors)
    if (vector.shape.size() == 1) tensor(pack, vector);
}

}  // namespace adze
