// The one factorisation that second-order solvers need, and solves with it.
#pragma once

#include <cstddef>
#include <optional>

#include "base/matrix.h"

namespace adze {

/// Reverse Cholesky: overwrites the symmetric positive definite h [n x n] (both triangles given) with the upper
/// triangular R, R R^T = H; the strict lower triangle becomes zero. 1/R_jj^2 is the leading entry of the inverse of the
/// trailing block H[j:, j:], so R replaces "Cholesky of the inverse" (specification: GPTQ, form B) at a quarter of the
/// cost. Blocks of columns from the last on, each block's update in tiles on all threads; the tiles, and so the result,
/// do not depend on how many those are. Returns the column at which H stopped being positive definite, h being garbage
/// then, or nothing when it worked.
[[nodiscard]] std::optional<std::size_t> reverse_cholesky(MatrixD& h);

/// Y := Y (R R^T)^-1.  R: upper triangular [n x n]; Y: [m x n]. Only the upper triangle of R is read.
void solve_normal_right(ConstViewF r, ViewF y);

/// Solves Y^T R = S^T in place: y [n x k] holds S on entry; R: [n x n] upper triangular (strict lower part ignored).
/// Column c of y is one right-hand side, so this is R^T Y = S by forward substitution.
void solve_transposed_upper(ConstViewF r, ViewF y);

}  // namespace adze
