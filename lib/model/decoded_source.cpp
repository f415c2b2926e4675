#include "model/decoded_source.h"

#include <algorithm>
#include <cstring>

#include "base/checked.h"

namespace adze {

void DecodedSource::add(const std::string& name, std::optional<DType> stored, const std::vector<std::uint64_t>& shape) {
  const DType dtype = stored.value_or(DType::f32);
  tensors_.push_back({name, dtype, shape, checked_mul(checked_product(shape), bytes_of(dtype))});
}

void DecodedSource::sort() { std::ranges::sort(tensors_, {}, &TensorInfo::name); }

void DecodedSource::read(const TensorInfo& tensor, std::uint64_t offset, std::span<std::byte> out) const {
  check_range(tensor, offset, out.size());
  if (out.empty() || read_stored(tensor, offset, out)) return;
  const TensorPtr matrix = loaded(tensor);
  if (dtype_from_name(matrix->format()) == tensor.dtype) {  // floats that were coded
    std::ranges::copy(matrix->payload().subspan(checked_cast<std::size_t>(offset), out.size()), out.begin());
    return;
  }
  const std::uint64_t row_bytes = matrix->shape().cols * sizeof(float);
  const auto first = checked_cast<std::size_t>(offset / row_bytes);
  const auto end = checked_cast<std::size_t>(divide_up(offset + out.size(), row_bytes));
  std::vector<float> rows((end - first) * matrix->shape().cols);
  matrix->decode_rows(first, end - first, rows);
  std::memcpy(out.data(), std::as_bytes(std::span(rows)).data() + (offset - first * row_bytes), out.size());
}

TensorPtr DecodedSource::loaded(const TensorInfo& tensor) const {
  const std::lock_guard lock(mutex_);
  if (last_name_ != tensor.name) {
    last_.reset();  // freed before the next one is loaded
    last_name_.clear();
    last_ = load(tensor);
    last_name_ = tensor.name;
  }
  return last_;
}

}  // namespace adze
