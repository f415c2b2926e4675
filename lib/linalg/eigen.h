// Spectra and what is made of them, in double, by LAPACK. Each call is single-threaded: callers run several matrices
// side by side. Squares of condition numbers live here, so nothing of it is ever in single precision.
#pragma once

#include <cstddef>
#include <functional>
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
/// Its values alone, descending: (4/3) n^3 operations.
std::vector<double> symmetric_eigenvalues(MatrixD a);
/// The `count` pairs with the largest values, by bisection and representations (dsyevr): (4/3) n^3 operations and a
/// share of the vectors instead of 9 n^3. Worth it for count well below n / 2.
SymmetricEigen leading_eigen(MatrixD a, std::size_t count);

/// Nearly the same for count well below n / 8, from products with the symmetric, positive semidefinite a alone, which
/// need not exist as a matrix: randomised subspace iteration (Halko, Martinsson and Tropp 2011) with twice as many
/// random directions as are wanted, then the eigenvectors within what they span. times: rows [k x n] -> rows times a,
/// called `iterations` + 2 times. The directions are always the same ones.
SymmetricEigen sketched_eigen(std::size_t n, std::size_t count, const std::function<MatrixD(const MatrixD&)>& times,
                              int iterations = 2);

/// The eigenvalues mu of the pencil a x = mu b x, descending; a symmetric, b symmetric positive definite, [n x n] both.
/// Throws bad_data when b is not, or a value is not finite.
std::vector<double> pencil_eigenvalues(MatrixD a, MatrixD b);

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
