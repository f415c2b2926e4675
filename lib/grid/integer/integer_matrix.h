// A matrix on an integer grid taken apart: what formats of runtimes are made of, and what is read from them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/dtype.h"
#include "grid/integer/integer.h"
#include "grid/quantized_tensor.h"

namespace adze {

/// value = scale * (code - zero); codes and zeros from 0 to 2^bits - 1.
struct IntegerMatrix {
  IntegerGridSpec spec;  ///< scope group or channel
  Shape shape;
  std::vector<std::uint8_t> codes;  ///< [rows x cols]
  std::vector<std::byte> scales;    ///< [rows x groups] of spec.scale_dtype
  std::vector<std::uint8_t> zeros;  ///< [rows x groups]; 2^(bits - 1) where the grid is symmetric

  std::size_t group_cols() const { return spec.scope == ScaleScope::group ? spec.group : shape.cols; }
  std::size_t groups() const { return shape.cols / group_cols(); }
};

/// Throws bad_data for a tensor on another grid, or with one scale for all of it.
IntegerMatrix unpack_integers(const QuantizedTensor& tensor);

/// The inverse. Throws bad_data where sizes disagree, a code or a zero point is too large, or a symmetric matrix has
/// another zero point.
std::shared_ptr<const QuantizedTensor> pack_integers(const IntegerMatrix& matrix);

/// Scales as numbers, [rows x groups].
std::vector<float> scales_of(const IntegerMatrix& matrix);

}  // namespace adze
