// Sparsity patterns: which weights of a matrix [out x in] are zero, said by a rule that fixes their exact number, so
// that the bytes of a pruned tensor are known before it is solved.
//
//   50%                      unstructured: any weights
//   2:4                      n:m: in every m consecutive columns of a row, n weights are kept
//   50% in blocks of 16      groups of consecutive columns of a row, kept or pruned as one
//   50% in rows              whole rows: outputs
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/matrix.h"

namespace adze {

enum class PatternKind { unstructured, n_of_m, blocks, rows };

class SparsityPattern {
 public:
  /// Sparsities are kept in millionths, so that counts are exact and names come back.
  static constexpr std::uint64_t kWhole = 1'000'000;
  static constexpr std::size_t kLargestM = 32;  ///< ranks of subsets fit 32 bits

  /// sparsity: the part that is zero, 0 to 1; all three throw bad_recipe for what makes no sense.
  static SparsityPattern unstructured(double sparsity);
  static SparsityPattern n_of_m(std::size_t n, std::size_t m);
  static SparsityPattern blocks(double sparsity, std::size_t cols);
  static SparsityPattern rows(double sparsity);
  /// The inverse of text(). Throws bad_recipe.
  static SparsityPattern parse(std::string_view text);

  PatternKind kind() const { return kind_; }
  std::size_t n() const { return n_; }
  std::size_t m() const { return m_; }
  /// Columns that are kept or pruned as one: 1 but for blocks.
  std::size_t block_cols() const { return kind_ == PatternKind::blocks ? m_ : 1; }

  /// "50%", "2:4", "50% in blocks of 16", "50% in rows".
  std::string text() const;
  /// Nothing when matrices of `cols` columns can have it, else the reason and the nearest choice that fits.
  std::optional<std::string> cannot_hold(std::size_t cols) const;
  /// Exact number of zeros of a matrix; of an n:m pattern and of blocks, whole groups.
  std::uint64_t zeros(Shape shape) const;
  /// floor(count * sparsity), exactly: of `count` candidates, how many are pruned.
  std::uint64_t pruned_of(std::uint64_t count) const;

  bool operator==(const SparsityPattern&) const = default;

 private:
  SparsityPattern(PatternKind kind, std::uint64_t millionths, std::size_t n, std::size_t m)
      : kind_(kind), millionths_(millionths), n_(n), m_(m) {}

  PatternKind kind_;
  std::uint64_t millionths_;  ///< zeros; unused for n:m
  std::size_t n_;
  std::size_t m_;  ///< of n:m; columns of a block
};

}  // namespace adze
