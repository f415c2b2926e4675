#include "evaluate/rank_correlation.h"

#include <cassert>
#include <cmath>
#include <cstddef>

namespace adze {
namespace {

/// Covariance over the root of the variances; where one of these is 0, as the header says.
double normalized(double covariance, double variance_a, double variance_b) {
  if (variance_a == 0 || variance_b == 0) return variance_a == variance_b ? 1 : 0;
  return covariance / std::sqrt(variance_a * variance_b);
}

int order(float x, float y) { return static_cast<int>(x > y) - static_cast<int>(x < y); }

/// Twice the distance of item i's mid-rank from the middle: items below it less items above it.
double centred_rank(std::span<const float> values, std::size_t i) {
  int rank = 0;
  for (const float other : values) rank += order(values[i], other);
  return rank;
}

}  // namespace

double kendall_tau_b(std::span<const float> a, std::span<const float> b) {
  assert(a.size() == b.size() && a.size() >= 2);
  int agreement = 0, untied_a = 0, untied_b = 0;
  for (std::size_t j = 1; j < a.size(); ++j)
    for (std::size_t i = 0; i < j; ++i) {
      const int of_a = order(a[i], a[j]), of_b = order(b[i], b[j]);
      agreement += of_a * of_b;
      untied_a += of_a * of_a;
      untied_b += of_b * of_b;
    }
  return normalized(agreement, untied_a, untied_b);
}

double spearman_rho(std::span<const float> a, std::span<const float> b) {
  assert(a.size() == b.size() && a.size() >= 2);
  double covariance = 0, variance_a = 0, variance_b = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double rank_a = centred_rank(a, i), rank_b = centred_rank(b, i);
    covariance += rank_a * rank_b;
    variance_a += rank_a * rank_a;
    variance_b += rank_b * rank_b;
  }
  return normalized(covariance, variance_a, variance_b);
}

}  // namespace adze
