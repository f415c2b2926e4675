// Floats added up in double: the part of calibration's sums that is not a product. Highway kernels; every sum takes its
// values in the order in which they are given and by itself, so its bits are those of a plain loop.
#pragma once

#include <span>

#include "base/matrix.h"

namespace adze {

/// sums[i] += values[i]. Equal sizes.
void add_widened(std::span<const float> values, std::span<double> sums);

/// What is added up of each column of activations.
struct ColumnSums {
  std::span<double> sum;      ///< sum x
  std::span<double> abs_sum;  ///< sum |x|
  std::span<float> abs_max;   ///< max |x|
};
/// Adds the rows of x one after the other.  x: [rows x n], sums of n values each. False when a value of x is not
/// finite; what the sums hold then is of no use.
[[nodiscard]] bool add_columns(ConstViewF x, const ColumnSums& sums);

}  // namespace adze
