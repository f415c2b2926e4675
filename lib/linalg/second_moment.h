// H += X^T X: products in single precision over short token slices, sums of slices in double, always in token order.
// The result depends on the slices only, not on the number of threads or on how many tokens came per call.
#pragma once

#include <cstddef>
#include <span>

#include "base/matrix.h"

namespace adze {

/// Adds X^T X to h. X: [tokens x n] float; h: [n x n] double, both triangles are written (symmetric to the bit).
/// Tokens are cut into slices of `slice_tokens` from the first row on; each slice is one single-precision product.
void add_second_moment(ConstViewF x, std::size_t slice_tokens, ViewD h);

/// One sum: X^T X is added to h.
struct MomentSum {
  ConstViewF x;  ///< [tokens x n]
  ViewD h;       ///< [n x n]
};
/// The same for several inputs side by side, so that threads that find no tile of a narrow one take those of others.
void add_second_moments(std::span<const MomentSum> sums, std::size_t slice_tokens);

}  // namespace adze
