// COMPOT (arXiv 2602.15200): an orthogonal dictionary and sparse coefficients, found by closed-form alternation in the
// norm of H (specification: low-rank, section 11). With H = C C^T and T = W C, one row an output:
//   coding      S = the largest entries of T D, the others zero      exact, because D^T D = I
//   dictionary  D = polar factor of T^T S                            exact (orthogonal Procrustes)
// so the loss ||T||^2 - ||S||^2 never grows. Once the places of the coefficients are found, dictionary and coefficients
// are fitted again by least squares without orthogonality: What = S A^T with A^T = (S^T S)^-1 S^T W. Stored as a
// product of a sparse and a dense matrix.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "grid/sparse/mask.h"
#include "solve/solver.h"

namespace adze {

struct CompotOptions {
  int iterations = 20;
  double tolerance = 1e-4;  ///< stop when an iteration lowers the loss by less than this part of it
  bool by_row = false;      ///< as many coefficients in every row; else the largest of the whole matrix
};

/// What the alternation found. Loss in the norm in which T is whitened.
struct OrthogonalDictionary {
  MatrixD dictionary;          ///< D [n x k], orthonormal columns
  MatrixD coefficients;        ///< S [m x k], `kept` of them not zero
  std::vector<double> losses;  ///< ||T - S D^T||^2 after each coding
};

/// Where the alternation starts: the leading k right singular vectors of T = W C [m x n] as columns, k <= n; those
/// beyond its rank are zero.
MatrixD first_dictionary(const MatrixD& whitened, std::size_t atoms);

/// start: [n x k]; kept: coefficients that are not zero.
OrthogonalDictionary find_dictionary(const MatrixD& whitened, MatrixD start, std::uint64_t kept,
                                     const CompotOptions& options);

/// Options: keep, ratio (atoms to coefficients of a row), align, iterations, tolerance, threshold (matrix, row), refit,
/// shift.
std::unique_ptr<Solver> configure_compot(MapReader& options);

}  // namespace adze
