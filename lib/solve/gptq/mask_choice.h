// Which weights SparseGPT prunes (Frantar and Alistarh 2023; specification, section 5): those whose removal costs least
// once the columns after them have made up for it, judged by the weights as feedback has moved them so far.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/matrix.h"
#include "grid/sparse/mask.h"
#include "solve/gptq/factor.h"

namespace adze {

/// n:m masks, group by group of m columns that follow each other in the factor's order.
class SubsetChoice {
 public:
  SubsetChoice() = default;
  /// factor must outlive the choice. enumerate: try all subsets where m <= 4.
  SubsetChoice(const GptqFactor& factor, std::size_t m, bool enumerate);

  /// The n weights of a group to keep, as bits. `position`: place of its first column in the order; weights: m of them.
  /// Enumerating: the subset whose removal costs least, members of the group making up for those before them (5.2);
  /// else the largest scores w^2 R_jj^2, as published.
  std::uint32_t choose(std::size_t position, std::span<const float> weights, std::size_t n) const;

 private:
  const GptqFactor* factor_ = nullptr;
  std::vector<float> inverses_;  ///< (R_gg)^-1 of each group, row-major, one after the other; empty for larger m
};

/// Prunes the `count` entries of least score in the first columns.size() columns of scores; of equal ones the first.
/// columns[j]: the mask's column that scores' column j is of.
void prune_least(const MatrixF& scores, std::uint64_t count, std::span<const std::size_t> columns, Mask& mask);

}  // namespace adze
