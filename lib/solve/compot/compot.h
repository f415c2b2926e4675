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

/// ROCKET's single pass (arXiv 2602.11008; specification, section 12): coefficients T D of the starting dictionary, of
/// which those stay whose |c_ij| ||C^-T d_j||^lambda is largest, by their weight in the norm of H and in the weights
/// themselves. C is not inverted: C^-T d_j = W^T T d_j / ||T d_j||^2. weights: W [m x n]; returns S [m x k].
MatrixD single_pass_coefficients(const MatrixD& weights, const MatrixD& whitened, const MatrixD& start,
                                 std::uint64_t kept, double lambda, bool by_row);

/// Options: keep, ratio (atoms to coefficients of a row), align, iterations, tolerance, threshold (matrix, row), refit,
/// shift.
std::unique_ptr<Solver> configure_compot(MapReader& options);

/// The same with the single pass in place of the alternation: keep, ratio, align, importance (lambda), threshold,
/// refit, shift.
std::unique_ptr<Solver> configure_rocket(MapReader& options);

}  // namespace adze
