// What is stored for one weight matrix [out x in], whoever made it: it knows its exact size in bytes and how to
// dequantize itself, and nothing else needs to know more.
//
// Kinds: DenseTensor (a dtype), QuantizedTensor (codes and scales of a grid), SparseTensor (a mask and what it keeps),
// NestedTensor (bits of codes as planes), SignTensor and DroppedTensor (grid/delta/); made of others: MixedRowsTensor
// (grid/rows/), ProductTensor, PivotedTensor, SharedTensor, TrainTensor and SumTensor (grid/factors/). All are
// immutable and thread-safe to read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/byte_array.h"
#include "base/dtype.h"
#include "base/matrix.h"

namespace adze {

class CompressedTensor {
 public:
  virtual ~CompressedTensor() = default;

  virtual Shape shape() const = 0;
  /// Exact stored size, side data included.
  virtual std::uint64_t bytes() const = 0;
  /// "bf16", "gguf/q4_k", "int4 g128 sym".
  virtual std::string format() const = 0;
  /// Writes rows [first, first + count) as float, row-major, to `out` of count * cols values.
  virtual void decode_rows(std::size_t first, std::size_t count, std::span<float> out) const = 0;
  /// Multiplications that a product with one input vector takes, stored as it is.
  virtual std::uint64_t multiplications() const { return shape().count(); }
  /// The stored bytes, in the layout of the format.
  virtual std::span<const std::byte> payload() const = 0;

  double bits_per_weight() const { return 8.0 * static_cast<double>(bytes()) / static_cast<double>(shape().count()); }
  MatrixF decode() const;
};

/// Weights kept in a float dtype (f32, f16, bf16), row-major.
class DenseTensor final : public CompressedTensor {
 public:
  /// Throws bad_data unless payload.size() == rows * cols * bytes_of(dtype) and dtype is a weight dtype.
  DenseTensor(DType dtype, Shape shape, ByteArray payload);

  DType dtype() const { return dtype_; }
  Shape shape() const override { return shape_; }
  std::uint64_t bytes() const override { return payload_.size(); }
  std::string format() const override;
  void decode_rows(std::size_t first, std::size_t count, std::span<float> out) const override;
  std::span<const std::byte> payload() const override { return payload_; }

 private:
  DType dtype_;
  Shape shape_;
  ByteArray payload_;
};

/// Converts float weights to a dtype, rounding to nearest even. Throws bad_data when a value overflows f16.
DenseTensor make_dense(ConstViewF weights, DType dtype);

}  // namespace adze
