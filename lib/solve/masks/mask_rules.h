// Which weights to prune, by scores that need no more than a weight and its input: the masks of magnitude pruning,
// Wanda and NoWag-P (specification, section 6), and of second-order saliency for whole blocks (GQSA, section 9.2).
// Scores are squared, so that those of a block's weights add up.
#pragma once

#include <span>

#include "base/matrix.h"
#include "grid/sparse/mask.h"

namespace adze {

/// Which weights compete with each other for the zeros of an unstructured pattern or of blocks.
enum class Competition {
  matrix,  ///< all of them
  row,     ///< those of one output; rows differ by at most one zero
};

/// w_ij^2.
MatrixF magnitude_scores(ConstViewF weights);
/// w_ij^2 H_jj: the squared score of Wanda (Sun et al. 2023). moments: diag(H), one per input.
MatrixF wanda_scores(ConstViewF weights, std::span<const float> moments);
/// wbar_ij^2 H_jj, wbar the weights with columns and then rows brought to norm 1 (NoWag-P).
MatrixF nowag_scores(ConstViewF weights, std::span<const float> moments);
/// What zeroing a block of `cols` columns costs when all other weights of the row make up for it, w_g ([H^-1]_gg)^-1
/// w_g^T (specification 0.3, item 3), spread evenly over its weights. inverse: (H_d)^-1 [in x in].
MatrixF block_scores(ConstViewF weights, ConstViewD inverse, std::size_t cols);

/// The mask of least score that has the pattern; of equals, what comes first goes. n:m groups are judged one by one
/// and rows against each other, whatever the competition.
Mask choose_mask(const MatrixF& scores, const SparsityPattern& pattern, Competition competition);

}  // namespace adze
