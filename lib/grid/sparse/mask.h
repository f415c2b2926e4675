// The mask of a matrix: one bit a weight, set where the weight is kept. Rows begin at words of their own, so that
// different threads may write different rows.
#pragma once

#include <bit>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/matrix.h"
#include "grid/sparse/pattern.h"

namespace adze {

class Mask {
 public:
  Mask() = default;
  /// Everything is kept.
  explicit Mask(Shape shape) : shape_(shape), row_words_((shape.cols + 63) / 64), words_(shape.rows * row_words_) {
    for (std::size_t r = 0; r < shape.rows; ++r)
      for (std::size_t c = 0; c < shape.cols; c += 64)
        words_[r * row_words_ + c / 64] =
            shape.cols - c >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << (shape.cols - c)) - 1;
  }

  Shape shape() const { return shape_; }
  bool empty() const { return words_.empty(); }
  bool kept(std::size_t row, std::size_t col) const { return (word(row, col) >> (col % 64) & 1) != 0; }
  void prune(std::size_t row, std::size_t col) { words_[index(row, col)] &= ~(std::uint64_t{1} << (col % 64)); }
  void keep(std::size_t row, std::size_t col) { words_[index(row, col)] |= std::uint64_t{1} << (col % 64); }
  void prune(std::size_t row, std::size_t first_col, std::size_t cols) {
    for (std::size_t c = first_col; c < first_col + cols; ++c) prune(row, c);
  }

  std::size_t kept_in_row(std::size_t row) const {
    std::size_t count = 0;
    for (std::size_t w = 0; w < row_words_; ++w)
      count += static_cast<std::size_t>(std::popcount(words_[row * row_words_ + w]));
    return count;
  }
  std::uint64_t zeros() const {
    std::uint64_t kept = 0;
    for (std::size_t r = 0; r < shape_.rows; ++r) kept += kept_in_row(r);
    return shape_.count() - kept;
  }
  bool operator==(const Mask&) const = default;

 private:
  std::size_t index(std::size_t row, std::size_t col) const {
    assert(row < shape_.rows && col < shape_.cols);
    return row * row_words_ + col / 64;
  }
  std::uint64_t word(std::size_t row, std::size_t col) const { return words_[index(row, col)]; }

  Shape shape_;
  std::size_t row_words_ = 0;
  std::vector<std::uint64_t> words_;
};

/// The mask of a matrix's zeros.
Mask mask_of(ConstViewF weights);

/// Nothing when the mask has the pattern exactly, its number of zeros included; else where it has not.
std::optional<std::string> pattern_problem(const Mask& mask, const SparsityPattern& pattern);

}  // namespace adze
