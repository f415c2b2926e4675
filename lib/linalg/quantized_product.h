// y = W x straight from packed 4-bit codes, as a runtime computes it when it generates text: one pass over the stored
// bytes, which are never expanded. Highway kernels, chosen at run time.
//
// x is rounded to 16 bits in each group of columns, so that codes are multiplied as integers: an entry moves by at most
// 2^-16 of its group's largest magnitude. Sums of a group are exact, sums over groups single precision in a fixed
// order.
#pragma once

#include <cstddef>
#include <span>

#include "base/dtype.h"
#include "base/matrix.h"

namespace adze {

/// Rows as integer grids store them (grid/integer/integer.h): scales of all groups; zero points of 4 bits where they
/// are not symmetric, padded to a byte; codes of 4 bits, the first in the low half of its byte. value = scale * (code -
/// zero), zero = 8 where symmetric.
struct FourBitRows {
  std::span<const std::byte> bytes;  ///< all rows, one after the other
  Shape shape;
  std::size_t group = 0;  ///< columns, a multiple of 32; divides shape.cols
  DType scale_dtype = DType::f16;
  bool symmetric = true;

  std::size_t groups() const { return shape.cols / group; }
  std::size_t scale_bytes() const { return groups() * bytes_of(scale_dtype); }
  std::size_t zero_bytes() const { return symmetric ? 0 : (groups() + 1) / 2; }
  std::size_t row_bytes() const { return scale_bytes() + zero_bytes() + shape.cols / 2; }
};

/// x: cols entries, finite; y: rows entries. All threads; bits do not depend on how many. Throws internal where sizes
/// disagree.
void multiply_four_bit(const FourBitRows& weights, std::span<const float> x, std::span<float> y);

}  // namespace adze
