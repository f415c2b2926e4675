// Spectra and what is made of them, in double, by LAPACK. Each call is single-threaded: callers run several matrices
// side by side. Squares of condition numbers live here, so nothing of it is ever in single precision.
#pragma once

#include <cstddef>
#include <vector>

#include "base/matrix.h"

namespace adze {

/// Eigenvectors are rows, as many as were asked for; values descend, and there are as many as vectors.
struct SymmetricEigen {
  std::vector<double> values;
  MatrixD vectors;  ///< [count x n], orthonormal rows
};

/// All pairs of the symmetric a [n x n], both triangles given, by divide and conquer. Throws bad_data when LAPACK does
/// not converge (a value is not finite).
SymmetricEigen symmetric_eigen(MatrixD a);
/// The `count` pairs with the largest values, by bisection and representations (dsyevr): (4/3) n^3 operations and a
/// share of the vectors instead of 9 n^3. Worth it for count well below n / 2.
SymmetricEigen leading_eigen(MatrixD a, std::size_t count);

/// The orthonormal n x k factor of least distance to g [n x k], n >= k (orthogonal Procrustes): U V^T of g = U S V^T.
/// Through the eigenvectors of g^T g and two Newton-Schulz steps (specification: low-rank, K5), or through the singular
/// value decomposition where g is too ill-conditioned for its square.
MatrixD polar_factor(const MatrixD& g);

/// Singular value decomposition of a [m x n]: a = u diag(values) vt, k = min(m, n), values descending.
struct SingularValues {
  MatrixD u;  ///< [m x k]
  std::vector<double> values;
  MatrixD vt;  ///< [k x n]
};
SingularValues singular_values(MatrixD a);

/// Columns of a [r x n], r <= n, in the order in which QR with column pivoting takes them: each is the one farthest
/// from the span of those before. The first r are the pivots, the others ascend.
std::vector<std::size_t> pivot_columns(const MatrixD& a);

}  // namespace adze
