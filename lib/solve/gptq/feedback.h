// Error feedback, the heart of GPTQ, tile by tile (specification 2.1, feedback form): with w the original weights,
// H_d = R R^T (R upper triangular) and d_i = w_i - value_i the errors made so far,
//   t_j = w_j + (1 / R_jj) sum_{i<j} d_i R_ij,   value_j = round(t_j)
// column after column. Nothing is ever moved in W itself.
//
// Pruned weights are rounded to zero, and the columns after them make up for it: with a mask that is given this is
// masked GPTQ, with one that is chosen on the way it is SparseGPT (specification, section 5).
#pragma once

#include <cstddef>
#include <optional>

#include "base/matrix.h"
#include "grid/quantized_tensor.h"
#include "solve/gptq/factor.h"
#include "solve/gptq/mask_choice.h"

namespace adze {

/// Rows that are worked on together; fixed, so that every product has a shape of the problem (docs/architecture.md).
inline constexpr std::size_t kFeedbackRows = 256;

/// How tensors of one input and grid are worked through: made once, used by every tile.
class FeedbackPlan {
 public:
  /// fixed_scales: side data are fitted before; else each unit's when its turn comes. chooses: a pattern, unstructured
  /// or n:m, whose mask is chosen on the way, in place of the encoding's; n:m wants a factor in natural order. factor
  /// must outlive the plan.
  FeedbackPlan(const GptqFactor& factor, const Encoding& encoding, ScaleRule scale_rule, bool fixed_scales,
               std::optional<SparsityPattern> chooses = std::nullopt, bool enumerate = true);

  const GptqFactor& factor;
  ScaleRule scale_rule;
  bool fixed_scales;
  std::optional<SparsityPattern> chooses;
  std::size_t block;  ///< columns that the errors of all columns before them reach by one product; whole units
  std::size_t step;   ///< columns of a block whose errors reach each other one by one; whole units or a part of one
  /// Row p: R(first + i, p), i = 0, 1, ..., for the columns `first` ... p - 1 of p's step: what accumulate_rows wants.
  MatrixF near;
  SubsetChoice subsets;  ///< of n:m masks that are chosen on the way
};

/// What a tile did.
struct FeedbackResult {
  double loss = 0;     ///< sum (t_j - value_j)^2 R_jj^2, which is J_d, the loss with the damped H (specification 2.3),
                       ///< times the factor's unit
  bool finite = true;  ///< false when feedback overflowed: the codes are then meaningless, though still codes
};

/// Rounds all rows of `encoding`, tiles of kFeedbackRows in parallel. weights: [out x in]. Unstructured masks are
/// chosen among all rows of a block of columns, block by block; n:m masks row by row, as each group of columns is
/// reached (solve/gptq/mask_choice.h).
FeedbackResult round_with_feedback(const FeedbackPlan& plan, ConstViewF weights, Encoding& encoding);

}  // namespace adze
