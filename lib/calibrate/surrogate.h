// Second moments of a block's inputs without any text, from weights alone: for when there is nothing to calibrate with
// (UDFC, arXiv 2308.07209, carried over to a transformer; specification obs-family.md, section 16).
//
// What a norm gives is taken to be white but for its gains, x = gain z with z standard normal. Then
//   qkv, gate_up   H = diag(gain^2), exactly
//   o              H = W1 diag(gain^2) W1^T per head, W1 the value rows it reads: heads look at different tokens, so no
//                  two of them go together
//   down           x = silu(Wg gain z) (Wu gain z) over drawn z
// and for inputs that compressed linears give, cross = sum (x_original - x) x^T likewise: with it, solvers that shift
// their targets make the next linear take over what the one before has lost, which is UDFC's closed form.
#pragma once

#include <cstddef>

#include "base/matrix.h"
#include "model/forward.h"

namespace adze {

struct SurrogateMoments {
  MatrixD second_moment;  ///< [in x in]
  MatrixF cross;          ///< as solvers take it, [in x in]; empty when `seen` is `original`
};

/// Of the inputs of `stage` in block `index`, as the block `seen` gives them; `original` is the block before
/// compression. Biases count. The same for any number of threads.
SurrogateMoments surrogate_moments(const Architecture& architecture, Stage stage, std::size_t index,
                                   const BlockWeights& original, const BlockWeights& seen);

}  // namespace adze
