// Inverses and factors of small or shared matrices, positive definite but for one, in double, by LAPACK on one thread.
#pragma once

#include "base/matrix.h"

namespace adze {

/// Overwrites the symmetric positive definite h [n x n] with its inverse, both triangles. False when it is not positive
/// definite; h is then garbage.
[[nodiscard]] bool invert(MatrixD& h);

/// Overwrites the lower triangle of h with L, L L^T = h; the strict upper triangle is left as it is. False likewise.
[[nodiscard]] bool cholesky(MatrixD& h);

/// Y := Y H^-1; h [n x n], symmetric positive definite, is overwritten; y: [m x n]. False when it is not; y is then as
/// it was.
[[nodiscard]] bool solve_right(MatrixD& h, MatrixD& y);

/// Every row y of Y becomes the x with A x = y, by LU with partial pivoting; a [n x n] is overwritten; y: [m x n].
/// False when A is singular to the last bit.
[[nodiscard]] bool solve_general(MatrixD& a, MatrixD& y);

/// Overwrites the upper triangular r with its inverse; what stands below the diagonal is left as it is. No diagonal
/// entry may be zero.
void invert_upper(MatrixD& r);

/// Solves L y = b in place by forward substitution. l: [n x n], of which the lower triangle is read; b: n values.
void solve_lower(const MatrixD& l, std::span<double> b);

}  // namespace adze
