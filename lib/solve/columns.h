// What solvers need to work on one column of many rows at once: the step groups of a tile of rows laid out for it, and
// the walk that turns rows into columns and back.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "base/matrix.h"
#include "grid/quantized_tensor.h"
#include "linalg/convert.h"
#include "linalg/rounding.h"

namespace adze {

/// Calls body(column, row), few rows at a time: rows lie a multiple of the cache's period apart and would evict each
/// other.
template <typename Body>
void transpose_rows(std::size_t rows, std::size_t cols, Body&& body) {
  constexpr std::size_t kTogether = 8;
  for (std::size_t first = 0; first < rows; first += kTogether)
    for (std::size_t j = 0; j < cols; ++j)
      for (std::size_t r = first; r < std::min(first + kTogether, rows); ++r) body(j, r);
}

/// Codes are the bits of the nearest floats of the dtype.
inline void round_to_float(DType dtype, std::span<const float> x, std::span<std::int16_t> codes,
                           std::span<float> values) {
  from_float(dtype, x, std::as_writable_bytes(codes));
  to_float(dtype, std::as_bytes(std::span<const std::int16_t>(codes)), values);
}

class StepTable {
 public:
  /// Rows [first_row, first_row + rows) of `encoding`, which must outlive the table; `lanes` >= rows, the rest padding.
  StepTable(const Encoding& encoding, std::size_t first_row, std::size_t rows, std::size_t lanes)
      : encoding_(encoding),
        levels_(encoding.grid().levels()),
        step_cols_(encoding.step_cols()),
        first_row_(first_row),
        rows_(rows),
        values_(4 * (encoding.shape().cols / step_cols_), lanes) {}

  /// Takes over the encoding's step groups as they are now.
  void load(std::size_t first_group, std::size_t groups) {
    for (std::size_t r = 0; r < rows_; ++r) load_row(r, first_group, groups);
  }
  void load_row(std::size_t r, std::size_t first_group, std::size_t groups) {
    for (std::size_t g = first_group; g < first_group + groups; ++g) {
      const StepGroup& step = encoding_.group(first_row_ + r, g * step_cols_);
      values_(4 * g, r) = step.step;
      values_(4 * g + 1, r) = step.offset;
      values_(4 * g + 2, r) = step.lo;
      values_(4 * g + 3, r) = step.hi;
    }
  }

  /// Rounds column `col` of the rows from `lane` on: x, codes and values have one entry per row.
  void round(std::size_t col, std::size_t lane, std::span<const float> x, std::span<std::int16_t> codes,
             std::span<float> values) const {
    if (const auto dtype = encoding_.grid().float_values()) return round_to_float(*dtype, x, codes, values);
    const auto row = [&](std::size_t k) { return values_.row(4 * (col / step_cols_) + k).subspan(lane, x.size()); };
    const AffineColumns steps{row(0), row(1), row(2), row(3)};
    if (levels_.empty()) {
      round_to_grid(x, steps, codes, values);
    } else {
      round_to_codebook(x, steps, levels_, codes, values);
    }
  }

 private:
  const Encoding& encoding_;
  std::span<const float> levels_;
  std::size_t step_cols_;
  std::size_t first_row_;
  std::size_t rows_;
  MatrixF values_;  ///< per group four rows: step, offset, lo, hi; [4 groups x lanes]
};

}  // namespace adze
