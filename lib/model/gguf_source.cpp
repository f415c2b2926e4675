#include "model/gguf_source.h"

#include <algorithm>
#include <cstring>

#include "base/checked.h"
#include "base/error.h"
#include "base/parallel.h"
#include "grid/quantized_tensor.h"

namespace adze {
namespace {

/// The row of the GGUF tensor that holds row `row` of the Hugging Face tensor: the inverse of gguf_row_order.
std::size_t stored_row(std::size_t row, std::size_t rows, std::size_t heads) {
  if (heads == 0) return row;
  const std::size_t head_dim = rows / heads;
  const std::size_t inside = row % head_dim;
  return row - inside + 2 * (inside % (head_dim / 2)) + inside / (head_dim / 2);
}

/// Rows [first, first + count) of the Hugging Face tensor lie between these two of the GGUF tensor.
struct RowRange {
  std::size_t first = 0;
  std::size_t end = 0;
};
RowRange range_of(std::span<const std::size_t> rows) {
  const auto [least, most] = std::ranges::minmax_element(rows);
  return {*least, *most + 1};
}

/// Decodes encoded rows [rows x cols] to floats, in parallel.
std::vector<std::byte> decode(const CompressedTensor& tensor) {
  constexpr std::size_t kTileRows = 64;
  const Shape shape = tensor.shape();
  std::vector<std::byte> decoded(shape.count() * sizeof(float));
  parallel_for(divide_up(shape.rows, kTileRows), [&](std::size_t tile) {
    std::vector<float> values(std::min(kTileRows, shape.rows - tile * kTileRows) * shape.cols);
    tensor.decode_rows(tile * kTileRows, values.size() / shape.cols, values);
    std::memcpy(decoded.data() + tile * kTileRows * shape.cols * sizeof(float), values.data(),
                values.size() * sizeof(float));
  });
  return decoded;
}

DType seen_dtype(const GgufReadableType& type, bool is_made) {
  return is_made ? DType::f32 : type.dtype.value_or(DType::f32);
}

void copy_from(std::span<const float> values, std::uint64_t offset, std::span<std::byte> out) {
  std::memcpy(out.data(), std::as_bytes(values).data() + offset, out.size());
}

}  // namespace

GgufSource::GgufSource(std::shared_ptr<const GgufWeights> weights) : weights_(std::move(weights)) {
  std::vector<TensorSpec> specs = expected_tensors(weights_->architecture(), weights_->layout());
  std::ranges::sort(specs, {}, &TensorSpec::hf_name);
  for (const TensorSpec& spec : specs) {
    stored_.push_back(stored_tensor(spec));
    const DType dtype = seen_dtype(*stored_.back().type, stored_.back().is_made());
    tensors_.push_back({spec.hf_name, dtype, spec.shape, checked_mul(checked_product(spec.shape), bytes_of(dtype))});
  }
}

GgufSource::Stored GgufSource::stored_tensor(const TensorSpec& spec) const {
  for (const GgufFile& file : weights_->files()) {
    const GgufTensor* const tensor = file.find_tensor(spec.gguf_name);
    if (tensor == nullptr) continue;
    const std::size_t cols = spec.shape.size() == 1 ? 1 : checked_cast<std::size_t>(spec.shape[1]);
    const bool is_expert = spec.slot && spec.slot->is_expert();
    const std::size_t expert = is_expert ? static_cast<std::size_t>(spec.slot->expert) : 0;
    const GgufRows& place = spec.gguf_rows;
    const std::uint64_t row_bytes = place.all > 0 ? tensor->bytes / place.all : 0;
    const std::uint64_t bytes = place.all > 0 ? (spec.shape[0] - place.absent) * row_bytes
                                              : tensor->bytes / (is_expert ? weights_->architecture().experts : 1);
    return {&file,
            tensor,
            find_readable_gguf_type(tensor->type->name),
            checked_cast<std::size_t>(spec.shape[0]),
            cols,
            spec.permuted_heads,
            place.first * row_bytes + expert * bytes,
            bytes,
            weights_->scale_of(spec.gguf_name, expert),
            spec.role == TensorRole::norm && weights_->architecture().info().norm_offset != 0,
            place.absent > 0};
  }
  fail(ErrorKind::internal, "{}: tensor '{}' was checked and is missing", origin(), spec.gguf_name);
}

std::optional<FilePlace> GgufSource::place(const TensorInfo& tensor) const {
  const Stored& stored = stored_[index_of(tensor)];
  if (!stored.as_is()) return std::nullopt;
  return FilePlace{stored.file->path(), stored.tensor->offset + stored.offset};
}

void GgufSource::read(const TensorInfo& tensor, std::uint64_t offset, std::span<std::byte> out) const {
  check_range(tensor, offset, out.size());
  if (out.empty()) return;
  const Stored& stored = stored_[index_of(tensor)];
  if (stored.as_is()) return stored.file->read(*stored.tensor, stored.offset + offset, out);
  if (stored.is_offset) return copy_from(weights_->read_norm(stored.tensor->name), offset, out);
  if (stored.is_padded) return copy_from(weights_->positions()->decode().values(), offset, out);
  const std::uint64_t row_bytes = stored.cols * bytes_of(tensor.dtype);
  const std::uint64_t first = offset / row_bytes;
  const std::uint64_t end = divide_up(offset + out.size(), row_bytes);
  with_context(fmt::format("{}: tensor '{}'", origin(), tensor.name), [&] {
    std::vector<std::byte> rows(checked_cast<std::size_t>((end - first) * row_bytes));
    read_rows(stored, checked_cast<std::size_t>(first), rows);
    std::memcpy(out.data(), rows.data() + (offset - first * row_bytes), out.size());
  });
}

/// `out` takes whole rows, from first_row on, in Hugging Face order.
void GgufSource::read_rows(const Stored& stored, std::size_t first_row, std::span<std::byte> out) const {
  const std::size_t row_bytes = stored.cols * checked_cast<std::size_t>(bytes_of(seen_dtype(*stored.type, false)));
  std::vector<std::size_t> rows;
  for (std::size_t row = first_row; row < first_row + out.size() / row_bytes; ++row)
    rows.push_back(stored_row(row, stored.rows, stored.permuted_heads));
  const RowRange range = range_of(rows);
  const std::size_t stored_row_bytes = checked_cast<std::size_t>(stored.bytes / stored.rows);
  std::vector<std::byte> bytes((range.end - range.first) * stored_row_bytes);
  stored.file->read(*stored.tensor, stored.offset + std::uint64_t{range.first} * stored_row_bytes, bytes);
  const Shape shape{range.end - range.first, stored.cols};
  if (!stored.type->dtype) bytes = decode(*tensor_of_gguf(*stored.type, shape, std::move(bytes), stored.scale));
  for (std::size_t i = 0; i < rows.size(); ++i)
    std::memcpy(out.data() + i * row_bytes, bytes.data() + (rows[i] - range.first) * row_bytes, row_bytes);
}

}  // namespace adze
