// The best approximation of rank r in the norm of H (specification: low-rank, section 0.2):
//   min over rank r of tr((W - What) H (W - What)^T) is reached by What = U_r U_r^T W,
// U_r the leading eigenvectors of G = W H W^T, and is the sum of G's other eigenvalues. No inverse of H is needed, nor
// that H be positive definite. With H = C C^T it is the truncated SVD of W C (SVD-LLM, arXiv 2403.07378), and with
// H = I that of W.
#pragma once

#include <cstddef>
#include <vector>

#include "base/matrix.h"

namespace adze {

/// C [n x n] with C C^T = H: the Cholesky factor, or where H is not positive definite E sqrt(Lambda) of its
/// eigenvectors with eigenvalues above 1e-10 of the largest (specification 0.4). An empty H, the identity, has an empty
/// root.
MatrixD moment_root(ConstViewD h);

/// W C, W where C is empty.
MatrixD times_root(ConstViewD weights, const MatrixD& root);

/// Directions of the output and how much of its energy lies in each.
struct OutputSpectrum {
  std::vector<double> energy;  ///< sigma_i^2 descending, min(m, n) of them: eigenvalues of G
  MatrixD basis;               ///< [count x m], rows u_i, orthonormal; fewer than asked where G has no more
};

/// weights: [m x n]; h: [n x n] or empty; root: moment_root(h), needed where m > n only. The leading `count` directions
/// through the smaller of the two Gram matrices, in double.
OutputSpectrum output_spectrum(ConstViewD weights, ConstViewD h, const MatrixD& root, std::size_t count);

/// What a rank of r leaves: sum of energy from r on.
double tail(const std::vector<double>& energy, std::size_t rank);

struct Factors {
  MatrixD left;   ///< [m x r]
  MatrixD right;  ///< [r x n]
};

/// U_r and U_r^T W.
Factors leading_factors(ConstViewD weights, const OutputSpectrum& spectrum);

/// Nearly the same for a rank well below both sides, without G or a root: W H W^T is applied to a few directions, at
/// (2 m n + n^2) 16 r operations instead of m n (m + n) and an eigendecomposition.
Factors sketched_factors(ConstViewD weights, ConstViewD h, std::size_t rank);
/// True where that is worth it: sides of a thousand and more, a rank below an eighth of them.
bool sketch_pays(Shape shape, std::size_t rank);

/// The left factor that is best for given right ones: L = W H Z^T (Z H Z^T)^-1, Z [r x n] (specification, section 4).
/// Directions of Z that H does not see are damped.
MatrixD best_left(ConstViewD weights, ConstViewD h, ConstViewD right);

/// W H, W where H is empty.
MatrixD times_moment(ConstViewD weights, ConstViewD h);

MatrixD transposed(ConstViewD values);
MatrixD to_double(ConstViewF values);
MatrixF to_single(ConstViewD values);

}  // namespace adze
