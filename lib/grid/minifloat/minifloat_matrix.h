// A matrix on a grid of small floats taken apart: what formats of runtimes are made of, and what is read from them.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "base/matrix.h"
#include "grid/minifloat/minifloat.h"
#include "grid/quantized_tensor.h"

namespace adze {

/// value = step * element; the step is the scale's over the divisor.
struct MinifloatMatrix {
  MinifloatSpec spec;
  Shape shape;
  std::vector<std::byte> codes;  ///< [rows x code_bytes()] bit patterns of elements; of E2M1 two a byte, low half first
  std::vector<std::byte> scales;  ///< [rows x groups] of spec.scale_bytes()

  std::size_t groups() const { return shape.cols / spec.group_cols(shape.cols); }
  std::size_t code_bytes() const { return spec.bits == 8 ? shape.cols : shape.cols / 2; }
};

/// Throws bad_data for a tensor on another grid.
MinifloatMatrix unpack_minifloats(const QuantizedTensor& tensor);

/// The inverse; powers of two over E2M1 are on gguf/mxfp4. Throws bad_data where sizes disagree, an element or a scale
/// is NaN, or a scale is negative.
std::shared_ptr<const QuantizedTensor> pack_minifloats(const MinifloatMatrix& matrix);

}  // namespace adze
