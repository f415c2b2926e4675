// What GPTQ needs of H, computed once for all tensors that share an input: the order of columns and the factor of the
// permuted, damped H.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "base/matrix.h"
#include "solve/gptq/gptq.h"

namespace adze {

struct GptqFactor {
  std::vector<std::size_t> order;  ///< order[p]: the stored column that is rounded at position p
  /// Per stored column, what a rounding error of it costs once feedback is done: J_d = sum_j (t_j - q_j)^2 R_jj^2, so
  /// R_jj^2; zero for dead inputs. Against diag(H), mean KL on the demo model: Q4_0 0.00278 to 0.00282, Q4_K 0.00224 to
  /// 0.00223, int4 g128 the same.
  std::vector<float> importance;
  MatrixF r;           ///< upper triangular, R R^T = unit times H permuted and damped; empty when nothing worked
  double unit = 1;     ///< a power of four that brings H near 1, so that no multiple of H leaves single precision
  double damping = 0;  ///< used, as a fraction of mean(diag H)
  std::size_t dead_inputs = 0;
  std::string trouble;  ///< what had to be done to make H positive definite; empty: nothing
};

/// unit_cols: columns of a scale unit, for ColumnOrder::group. Dead inputs (H_jj <= 1e-12 max diag) get H_jj = mean and
/// no coupling, so that their weights are rounded on their own. Damping grows until the factorisation works
/// (specification, section 0.4).
GptqFactor factor_hessian(ConstViewD hessian, const GptqOptions& options, std::size_t unit_cols);

/// H as it was factored, for polish: damped, dead inputs uncoupled and all but weightless; columns as stored, single
/// precision.
MatrixF damped_hessian(ConstViewD hessian, double damping);

}  // namespace adze
