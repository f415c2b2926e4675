// Masked least squares: the weights that are left after pruning move to where they make up for those that are gone
// (specification, section 7.2: wbar_K = w H_:,K H_KK^-1 for the kept columns K of each row).
#pragma once

#include "base/matrix.h"
#include "grid/sparse/mask.h"

namespace adze {

/// Conjugate gradients on all rows at once, preconditioned by diag(H): one product with H an iteration instead of a
/// factorisation a row (specification 7.5).
struct RestoreOptions {
  int iterations = 40;      ///< at most; excess loss was 2e-10 after 20 on correlated inputs
  double tolerance = 1e-4;  ///< a row is done when its masked residual is this part of ||w H||
};

/// The matrix Z nearest to `target` in the sense of least tr((target - Z) H (target - Z)^T) among those that differ
/// from `start` only where `free` is set. target, start: [out x in]; hessian: [in x in] damped, symmetric positive
/// definite. Tiles of fixed height in parallel: the same bits for any number of threads.
MatrixF least_squares(ConstViewF target, ConstViewF start, const MatrixF& hessian, const Mask& free,
                      const RestoreOptions& options = {});

/// The same from the weights as they are, pruned ones zero.
MatrixF restore_kept(ConstViewF weights, const MatrixF& hessian, const Mask& mask, const RestoreOptions& options = {});

}  // namespace adze
