#include "metrics/moment_distance.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "base/error.h"
#include "linalg/eigen.h"
#include "linalg/factor.h"
#include "linalg/gemm.h"
#include "linalg/inverse.h"

namespace adze {
namespace {

constexpr double kDead = 1e-12;
constexpr double kLeadingShare = 0.9;
constexpr double kOutlierShare = 0.01;

void check_alike(std::size_t a, std::size_t b) {
  if (a != b) fail(ErrorKind::bad_data, "moments of {} and {} inputs cannot be compared", a, b);
}

void check_alike(const ComparedMoment& a, const ComparedMoment& b) { check_alike(a.inputs(), b.inputs()); }

double largest_diagonal(const MatrixD& h) {
  double largest = 0;
  for (std::size_t j = 0; j < h.rows(); ++j) largest = std::max(largest, h(j, j));
  return largest;
}

/// ||f(A) - f(B)||_F / ||f(B)||_F, entry by entry.
template <typename Entry>
double relative_difference(std::size_t n, Entry&& entry) {
  double difference = 0, norm = 0;
  for (std::size_t r = 0; r < n; ++r)
    for (std::size_t c = 0; c < n; ++c) {
      const auto [a, b] = entry(r, c);
      difference += (a - b) * (a - b);
      norm += b * b;
    }
  return std::sqrt(difference / norm);
}

/// 1 / sqrt(H_jj), 0 for dead columns.
std::vector<double> inverse_scales(const MatrixD& h) {
  const double least = kDead * largest_diagonal(h);
  std::vector<double> scales(h.rows());
  for (std::size_t j = 0; j < h.rows(); ++j) scales[j] = h(j, j) > least ? 1 / std::sqrt(h(j, j)) : 0;
  return scales;
}

/// Columns of the largest diagonal entries, ascending.
std::vector<std::size_t> outliers(const MatrixD& h) {
  std::vector<std::size_t> columns(h.rows());
  std::iota(columns.begin(), columns.end(), std::size_t{0});
  const auto count = std::max<std::size_t>(1, static_cast<std::size_t>(kOutlierShare * static_cast<double>(h.rows())));
  std::ranges::stable_sort(columns, std::ranges::greater{}, [&](std::size_t j) { return h(j, j); });
  columns.resize(count);
  std::ranges::sort(columns);
  return columns;
}

}  // namespace

ComparedMoment::ComparedMoment(MatrixD h) : moment_(std::move(h)) {
  const std::size_t n = moment_.rows();
  double trace = 0;
  for (std::size_t j = 0; j < n; ++j) trace += moment_(j, j);
  if (!std::isfinite(trace) || trace <= 0)
    fail(ErrorKind::bad_data, "a second moment with trace {} cannot be compared", trace);
  mean_square_ = trace / static_cast<double>(n);
  for (double& value : moment_.values()) value /= mean_square_;
}

MatrixD ComparedMoment::damped() const {
  MatrixD h = moment_;
  for (std::size_t j = 0; j < h.rows(); ++j) h(j, j) += kCompareDamping;
  return h;
}

MomentProfile profile_of(const ComparedMoment& moment) {
  const MatrixD& h = moment.moment();
  const std::size_t n = h.rows();
  SymmetricEigen eigen = symmetric_eigen(h);
  for (double& value : eigen.values) value = std::max(value, 0.0);
  const double trace = std::accumulate(eigen.values.begin(), eigen.values.end(), 0.0);
  MomentProfile profile;
  double entropy = 0, square = 0;
  for (const double value : eigen.values) {
    const double share = value / trace;
    if (share > 0) entropy -= share * std::log(share);
    square += share * share;
  }
  profile.effective_rank = std::exp(entropy);
  profile.stable_rank = trace / eigen.values.front();
  profile.participation = 1 / square;
  profile.condition = (eigen.values.front() + kCompareDamping) / (eigen.values.back() + kCompareDamping);
  const double least = kDead * largest_diagonal(h);
  for (std::size_t j = 0; j < n; ++j) profile.dead += h(j, j) <= least;
  std::size_t count = 0;
  for (double held = 0; count < n && held < kLeadingShare * trace; ++count) held += eigen.values[count];
  profile.leading = count;
  const ConstViewD vectors = eigen.vectors.view().row_range(0, count);
  profile.seen = product_tn(vectors, vectors);
  return profile;
}

double frobenius_distance(const ComparedMoment& a, const ComparedMoment& b) {
  check_alike(a, b);
  return relative_difference(
      a.inputs(), [&](std::size_t r, std::size_t c) { return std::pair(a.moment()(r, c), b.moment()(r, c)); });
}

double correlation_distance(const ComparedMoment& a, const ComparedMoment& b) {
  check_alike(a, b);
  const std::vector<double> sa = inverse_scales(a.moment()), sb = inverse_scales(b.moment());
  return relative_difference(a.inputs(), [&](std::size_t r, std::size_t c) {
    if (r == c) return std::pair(1.0, 1.0);
    return std::pair(sa[r] * a.moment()(r, c) * sa[c], sb[r] * b.moment()(r, c) * sb[c]);
  });
}

std::array<MomentDistance, 2> distances_between(const ComparedMoment& a, const ComparedMoment& b) {
  check_alike(a, b);
  const std::vector<double> mu = pencil_eigenvalues(a.damped(), b.damped());
  MomentDistance there, back;
  double squares = 0;
  for (const double value : mu) {
    const double log = std::log(value);
    there.stein += value - log - 1;
    back.stein += 1 / value + log - 1;
    there.s_divergence += std::log((1 + value) / 2) - log / 2;
    squares += log * log;
  }
  back.s_divergence = there.s_divergence;
  there.affine_invariant = back.affine_invariant = std::sqrt(squares);
  there.hilbert = back.hilbert = std::log(mu.front() / mu.back());
  there.frobenius = frobenius_distance(a, b);
  back.frobenius = frobenius_distance(b, a);
  return {there, back};
}

MomentDistance distance_of(const ComparedMoment& a, const ComparedMoment& b) { return distances_between(a, b)[0]; }

double captured_share(const MomentProfile& a, const ComparedMoment& b) {
  check_alike(a.seen.rows(), b.inputs());
  return inner_product(a.seen, b.moment()) / static_cast<double>(b.inputs());  // whose trace is n
}

double outlier_overlap(const ComparedMoment& a, const ComparedMoment& b) {
  check_alike(a, b);
  const std::vector<std::size_t> of_a = outliers(a.moment()), of_b = outliers(b.moment());
  std::vector<std::size_t> both;
  std::ranges::set_intersection(of_a, of_b, std::back_inserter(both));
  return static_cast<double>(both.size()) / static_cast<double>(of_a.size() + of_b.size() - both.size());
}

MatrixD error_moment(const ComparedMoment& a) {
  MatrixD spread = a.damped();  // becomes R, R^-1, T
  if (const auto column = reverse_cholesky(spread))
    fail(ErrorKind::bad_data, "a second moment is not positive definite at column {}", *column);
  const std::size_t n = spread.rows();
  std::vector<double> pivots(n);
  for (std::size_t j = 0; j < n; ++j) pivots[j] = spread(j, j);
  invert_upper(spread);
  for (std::size_t j = 0; j < n; ++j)
    for (double& value : spread.row(j).subspan(j)) value *= pivots[j];
  return gram_of_upper(spread);
}

double expected_loss(const MatrixD& error_moment, const ComparedMoment& b) {
  check_alike(error_moment.rows(), b.inputs());
  return inner_product(error_moment, b.moment());
}

double expected_loss(const ComparedMoment& a, const ComparedMoment& b) { return expected_loss(error_moment(a), b); }

}  // namespace adze
