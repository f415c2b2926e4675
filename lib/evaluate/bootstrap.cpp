#include "evaluate/bootstrap.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <numbers>
#include <numeric>
#include <vector>

#include "base/random.h"

namespace adze {
namespace {

constexpr std::size_t kFewWindows = 100;  // from here on the plain percentile interval serves
constexpr double kLowTail = 0.025;

double mean_of(std::span<const double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

/// The windows of one resample after the other. Every statistic asks here, so that all see the same resamples.
class Resamples {
 public:
  Resamples(std::size_t windows, std::uint64_t seed) : random_(seed, "evaluate/bootstrap"), drawn_(windows) {}

  /// Indices of the next resample, valid until the next call.
  std::span<const std::size_t> next() {
    for (std::size_t& window : drawn_) window = random_.below(drawn_.size());
    return drawn_;
  }

 private:
  RandomStream random_;
  std::vector<std::size_t> drawn_;
};

/// Means of the resamples, sorted.
std::vector<double> resampled_means(std::span<const double> values, std::uint64_t seed, std::size_t resamples) {
  Resamples draws(values.size(), seed);
  std::vector<double> means(resamples);
  for (double& mean : means) {
    double sum = 0;
    for (const std::size_t window : draws.next()) sum += values[window];
    mean = sum / static_cast<double>(values.size());
  }
  std::ranges::sort(means);
  return means;
}

double normal_cdf(double z) { return 0.5 * std::erfc(-z / std::numbers::sqrt2); }

/// Inverse of normal_cdf by bisection; p within what |z| < 8 gives.
double normal_quantile(double p) {
  double low = -8, high = 8;
  for (int step = 0; step < 80; ++step) {
    const double middle = 0.5 * (low + high);
    (normal_cdf(middle) < p ? low : high) = middle;
  }
  return 0.5 * (low + high);
}

/// Skewness of the mean by the jackknife (Efron 1987, eq. 6.6): for a mean it is that of the values over 6 sqrt(n).
double acceleration(std::span<const double> values, double mean) {
  double square = 0, cube = 0;
  for (const double value : values) {
    square += (value - mean) * (value - mean);
    cube += (value - mean) * (value - mean) * (value - mean);
  }
  return square == 0 ? 0 : cube / (6 * std::pow(square, 1.5));
}

/// Share of the resamples below the estimate; half of the ties count. Kept off 0 and 1.
double share_below(std::span<const double> sorted, double estimate) {
  const auto [first, last] = std::equal_range(sorted.begin(), sorted.end(), estimate);
  const auto below = static_cast<double>(first - sorted.begin());
  const auto equal = static_cast<double>(last - first);
  const auto n = static_cast<double>(sorted.size());
  return std::clamp((below + 0.5 * equal) / n, 0.5 / n, 1 - 0.5 / n);
}

struct WindowValue {
  double value;
  std::uint32_t window;
};

std::vector<WindowValue> sorted_values(MatrixView<const double> values) {
  std::vector<WindowValue> sorted;
  sorted.reserve(values.shape().count());
  for (std::size_t w = 0; w < values.rows(); ++w)
    for (const double value : values.row(w)) sorted.push_back({value, static_cast<std::uint32_t>(w)});
  std::ranges::sort(sorted, {}, &WindowValue::value);
  return sorted;
}

/// percentile() of a resample without sorting it: `copies` says how often each window was drawn.
double resampled_percentile(std::span<const WindowValue> sorted, std::span<const std::uint32_t> copies,
                            double fraction) {
  const double place = fraction * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  std::size_t next = 0, passed = 0;
  while ((passed += copies[sorted[next].window]) <= below) ++next;
  const double low = sorted[next].value;
  if (below + 1 < sorted.size())
    while (passed <= below + 1) passed += copies[sorted[++next].window];
  return low + (place - static_cast<double>(below)) * (sorted[next].value - low);
}

double deviation_of(std::span<const double> values) {
  const double mean = mean_of(values);
  double square = 0;
  for (const double value : values) square += (value - mean) * (value - mean);
  return std::sqrt(square / static_cast<double>(values.size() - 1));
}

}  // namespace

double percentile(std::span<const double> sorted, double fraction) {
  assert(!sorted.empty() && fraction >= 0 && fraction <= 1);
  const double place = fraction * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (place - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

std::optional<Interval> bootstrap_mean(std::span<const double> window_means, std::uint64_t seed,
                                       std::size_t resamples) {
  if (window_means.size() < 2) return std::nullopt;
  const std::vector<double> means = resampled_means(window_means, seed, resamples);
  if (window_means.size() >= kFewWindows) return Interval{percentile(means, kLowTail), percentile(means, 1 - kLowTail)};
  const double estimate = mean_of(window_means);
  const double bias = normal_quantile(share_below(means, estimate));
  const double a = acceleration(window_means, estimate);
  const auto corrected = [&](double tail) {
    const double z = bias + normal_quantile(tail);
    return percentile(means, normal_cdf(bias + z / (1 - a * z)));
  };
  return Interval{corrected(kLowTail), corrected(1 - kLowTail)};
}

std::optional<double> bootstrap_percentile_error(MatrixView<const double> values, double fraction, std::uint64_t seed,
                                                 std::size_t resamples) {
  assert(fraction >= 0 && fraction <= 1 && resamples > 1 && values.cols() > 0);
  if (values.rows() < 2) return std::nullopt;
  const std::vector<WindowValue> sorted = sorted_values(values);
  Resamples draws(values.rows(), seed);
  std::vector<double> percentiles(resamples);
  for (double& result : percentiles) {
    std::vector<std::uint32_t> copies(values.rows());
    for (const std::size_t window : draws.next()) ++copies[window];
    result = resampled_percentile(sorted, copies, fraction);
  }
  return deviation_of(percentiles);
}

}  // namespace adze
