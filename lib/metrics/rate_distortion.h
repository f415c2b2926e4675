// How few bits a layer could take: the rate-distortion bound under the proxy loss (specification limits.md).
//
// Row r of W is taken for a Gaussian vector of variance s_r^2 a weight, independent of the other rows. Its loss w H w^T
// is then a squared error of a Gaussian with covariance s_r^2 H, for which reverse water-filling is the exact bound:
// with the eigenvalues lambda_i of H and one water level theta for the whole layer
//   D(theta) = sum_{r,i} min(theta, s_r^2 lambda_i),   R(theta) = sum_{r,i} max(0, 1/2 log2(s_r^2 lambda_i / theta)).
// No code of R bits has a smaller expected loss than D. With a covariance S of the weights within rows (trace C, so
// that s_r^2 S is that of row r) the lambda_i are the eigenvalues of S^1/2 H S^1/2: the structured bound, the lower
// one.
//
// A Gaussian is the hardest source of its covariance: real weights may need less than the bound says, never more.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/matrix.h"

namespace adze {

/// The bound of one layer. Losses are in the unit of variance times eigenvalue, bits are per weight, all weights of the
/// layer counted. Every question takes time proportional to rows + columns.
class RateDistortion {
 public:
  /// row_variances: s_r^2, one per row, >= 0; eigenvalues: in any order; those that are not positive count as 0.
  RateDistortion(std::span<const double> row_variances, std::span<const double> eigenvalues);

  /// D with no bits at all: sum s_r^2 * sum lambda_i.
  double loss_of_nothing() const { return loss_of_nothing_; }
  /// The least bits per weight that a loss takes: 0 from loss_of_nothing() on, infinite for a loss of 0 or less unless
  /// nothing costs nothing.
  double bits_at_loss(double loss) const;
  /// The least loss with that many bits per weight; bits >= 0.
  double loss_at_bits(double bits) const;

 private:
  struct Point {
    double loss = 0;
    double bits = 0;  ///< of the whole layer
  };
  Point at(double log_theta) const;
  /// How many components are not 0.
  double components() const;
  /// Where wanted(point) turns true as the water rises.
  template <typename Wanted>
  Point search(Wanted&& wanted) const;

  double weights_ = 0;
  double loss_of_nothing_ = 0;
  std::vector<double> variances_, log_variances_;      ///< positive, descending
  std::vector<double> eigenvalues_, log_eigenvalues_;  ///< likewise
  std::vector<double> tail_sums_;                      ///< [k]: of eigenvalues from k on
  std::vector<double> log_sums_;                       ///< [k]: of logarithms before k
};

/// Mean square of every row.
std::vector<double> row_variances(ConstViewF weights);

/// The covariance of weights within rows, every row scaled to variance 1: [C x C], trace C.
struct RowStructure {
  MatrixD covariance;
  /// Share of the identity in it (Ledoit, Wolf 2004): the mean of few rows' w^T w shows structure that is only chance,
  /// 0.1 bit of it even with four times as many rows as columns.
  double shrinkage = 0;
};
/// variances: of row_variances(); rows of zeros are left out.
RowStructure row_structure(ConstViewF weights, std::span<const double> variances);

/// Eigenvalues of S^1/2 H S^1/2, descending. root: upper triangular, root root^T = H (reverse_cholesky).
std::vector<double> structured_eigenvalues(const RowStructure& structure, const MatrixD& root);

}  // namespace adze
