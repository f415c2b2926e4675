#include "grid/compressed_tensor.h"

#include <cmath>
#include <cstring>

#include "base/checked.h"
#include "base/error.h"
#include "linalg/convert.h"

namespace adze {

MatrixF CompressedTensor::decode() const {
  MatrixF weights(shape());
  decode_rows(0, weights.rows(), weights.values());
  return weights;
}

DenseTensor::DenseTensor(DType dtype, Shape shape, ByteArray payload)
    : dtype_(dtype), shape_(shape), payload_(std::move(payload)) {
  if (!is_weight_dtype(dtype)) fail(ErrorKind::bad_data, "weights of type {} are not supported", name_of(dtype));
  const std::uint64_t expected = checked_mul(checked_mul(shape.rows, shape.cols), bytes_of(dtype));
  if (payload_.size() != expected)
    fail(ErrorKind::bad_data, "{} x {} weights of type {} take {} bytes, not {}", shape.rows, shape.cols,
         name_of(dtype), expected, payload_.size());
}

std::string DenseTensor::format() const { return std::string(name_of(dtype_)); }

void DenseTensor::decode_rows(std::size_t first, std::size_t count, std::span<float> out) const {
  assert(first + count <= shape_.rows && out.size() == count * shape_.cols);
  const std::size_t row_bytes = shape_.cols * bytes_of(dtype_);
  to_float(dtype_, std::span(payload_).subspan(first * row_bytes, count * row_bytes), out);
}

DenseTensor make_dense(ConstViewF weights, DType dtype) {
  const std::size_t row_bytes = weights.cols() * bytes_of(dtype);
  ByteArray payload(weights.rows() * row_bytes);
  for (std::size_t r = 0; r < weights.rows(); ++r) {
    if (dtype == DType::f16)
      for (const float value : weights.row(r))
        if (std::fabs(value) >= 65520.0f)
          fail(ErrorKind::bad_data, "row {}: value {} does not fit f16; use bf16 or f32", r, value);
    from_float(dtype, weights.row(r), std::span(payload).subspan(r * row_bytes, row_bytes));
  }
  return DenseTensor(dtype, weights.shape(), std::move(payload));
}

}  // namespace adze
