// What a fine-tuned matrix differs by from that of its base, D = tuned - base, in a fraction of its bits
// (specification: allocation, section 8.1). Losses are those of D: J = tr((D - Dhat) H (D - Dhat)^T), the error of the
// layer's output.
//
//   signs   BitDelta (Liu et al. 2024): Dhat = a sign(D), one bit a weight, a per matrix or per row. The mean of |D| is
//           best for H = I; for any H the best a has a closed form, so that nothing is trained
//   drop    DARE (Yu et al. 2023): each entry is dropped with probability p, the others grow to make up for it. Which
//           ones follows from a seed, so no index is stored
//
// Low rank and integer deltas need nothing here: the solvers svd and gptq take D as their weights.
#pragma once

#include <vector>

#include "base/matrix.h"
#include "grid/delta/dropped_tensor.h"
#include "grid/delta/sign_tensor.h"

namespace adze {

/// tuned - base, of equal shapes.
MatrixF delta_of(ConstViewF tuned, ConstViewF base);

/// The scales of BitDelta: the mean of |D|. A delta of zero counts as positive.
SignTensor mean_sign_delta(ConstViewF delta, SignScope scope);

/// The scales of least loss, a = tr(D H S^T) / tr(S H S^T), S = sign(D), over the matrix or each row, then rounded to
/// f16: never worse in J than any other f16. h: [in x in], empty: the identity. Where signs alone give no output, a =
/// 0.
SignTensor best_sign_delta(ConstViewF delta, ConstViewD h, SignScope scope);

/// A relative output variance above this is no small edit any more.
constexpr double kMostDropVariance = 0.1;

/// E of the loss with k = 1 / (1 - p): p / (1 - p) sum_ij D_ij^2 H_jj, of each row.
std::vector<double> drop_variances(ConstViewF delta, ConstViewD h, double probability);

/// The same of all rows, as a fraction of the fine-tuned layer's output energy tr(W H W^T). Both throw bad_recipe for a
/// probability outside [0, 1).
double relative_drop_variance(ConstViewF delta, ConstViewF tuned, ConstViewD h, double probability);

/// What the mask keeps of D, in f16, times 1 / (1 - p), or where best_factor is set k = tr(D H M^T) / tr(M H M^T), M
/// what is kept of D: never worse in J, but no longer unbiased. Throws bad_data for entries beyond f16.
DroppedTensor drop_delta(ConstViewF delta, ConstViewD h, const DropMask& mask, bool best_factor);

}  // namespace adze
