// How far apart two second moments are: what two calibration sets say of one layer's input (specification
// evaluation.md, 10.2 and 10.3). Moments are compared after division by their trace, so that how loud a text is does
// not count, and, wherever an inverse is taken, with `kCompareDamping` of the mean diagonal added, as solvers do.
//
// The distances come from mu, the eigenvalues of the pencil (A, B), A x = mu B x. With n columns:
//
//   frobenius         ||A - B||_F / ||B||_F
//   stein             sum (mu - log mu - 1) = tr(A B^-1) - log det(A B^-1) - n, twice the divergence of two Gaussians;
//                     asymmetric
//   s_divergence      log det((A + B) / 2) - (log det A + log det B) / 2
//   affine_invariant  (sum log^2 mu)^(1/2)
//   hilbert           log(mu_max / mu_min): bounds the regret of an exact minimiser, 1 + regret <= exp(hilbert)
//
// The expected regret of GPTQ needs no weights. GPTQ with moment A leaves dW = E T_A, E the rounding errors of the
// columns one by one, about independent and alike, and T_A = diag(R_jj) R^-1 with A = R R^T, R upper triangular: an
// error of column j and what later columns take back of it. So E tr(dW B dW^T) is in proportion to tr(T_A B T_A^T),
// which is linear in B: with G_A = T_A^T T_A, the second moment of these errors, it is tr(G_A B), and the errors of one
// moment meet any number of judges at n^2 operations each.
#pragma once

#include <array>
#include <cstddef>

#include "base/matrix.h"

namespace adze {

inline constexpr double kCompareDamping = 0.01;

/// One moment, prepared for comparison. Throws bad_data where it is zero or not finite.
class ComparedMoment {
 public:
  /// h: [n x n] symmetric, positive semidefinite, any multiple of X X^T.
  explicit ComparedMoment(MatrixD h);

  std::size_t inputs() const { return moment_.rows(); }
  /// tr(H) of what was given, over n.
  double mean_square() const { return mean_square_; }
  /// H n / tr(H): a mean diagonal of 1, not damped.
  const MatrixD& moment() const { return moment_; }
  MatrixD damped() const;

 private:
  MatrixD moment_;
  double mean_square_ = 0;
};

/// What one moment is like.
struct MomentProfile {
  double effective_rank = 0;  ///< exp of the entropy of the eigenvalues as shares of their sum
  double stable_rank = 0;     ///< trace / largest eigenvalue
  double participation = 0;   ///< trace^2 / ||H||_F^2
  double condition = 0;       ///< of the damped moment
  std::size_t dead = 0;       ///< columns with H_jj <= 1e-12 of the largest
  std::size_t leading = 0;    ///< eigenvectors that together hold 90 % of the trace
  MatrixD seen;               ///< [n x n]: the projection on the space of these
};
MomentProfile profile_of(const ComparedMoment& moment);

struct MomentDistance {
  double frobenius = 0;
  double stein = 0;  ///< of A from B
  double s_divergence = 0;
  double affine_invariant = 0;
  double hilbert = 0;
};
/// Throws bad_data for different numbers of inputs.
MomentDistance distance_of(const ComparedMoment& a, const ComparedMoment& b);
/// Of a from b and of b from a, whose pencils have reciprocal eigenvalues: little more work than one of them.
std::array<MomentDistance, 2> distances_between(const ComparedMoment& a, const ComparedMoment& b);
double frobenius_distance(const ComparedMoment& a, const ComparedMoment& b);
/// The same of D^-1/2 H D^-1/2: structure without the scales of columns. Dead columns count as uncorrelated.
double correlation_distance(const ComparedMoment& a, const ComparedMoment& b);

/// Share of b's trace in the space of a's leading eigenvectors: how much of b a has seen.
double captured_share(const MomentProfile& a, const ComparedMoment& b);
/// Jaccard index of the columns with the largest 1 % of the diagonal (one column at least).
double outlier_overlap(const ComparedMoment& a, const ComparedMoment& b);

/// G_A = T_A^T T_A [n x n]: the second moment of the errors that GPTQ with moment a leaves, up to a factor that only
/// the grid decides. Throws bad_data where a value of the moment is not finite.
MatrixD error_moment(const ComparedMoment& a);
/// tr(G_A B): what GPTQ that leaves these errors loses when b judges, up to the same factor. Throws bad_data for
/// another number of inputs.
double expected_loss(const MatrixD& error_moment, const ComparedMoment& b);
/// The same with a's errors.
double expected_loss(const ComparedMoment& a, const ComparedMoment& b);

}  // namespace adze
