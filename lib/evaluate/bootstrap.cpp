#include "evaluate/bootstrap.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <numbers>
#include <numeric>

#include "base/random.h"

namespace adze {
namespace {

constexpr std::size_t kFewWindows = 10;       // below, spreads of resamples are too wild to divide by
constexpr double kMostWithoutSpread = 0.002;  // share of resamples; beyond it they reach the tails of interest
constexpr double kTail95 = 0.025, kTail90 = 0.05;

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

/// Share of the sorted values below `limit`; half of the ties count.
double share_below(std::span<const double> sorted, double limit) {
  const auto [first, last] = std::equal_range(sorted.begin(), sorted.end(), limit);
  const auto below = static_cast<double>(first - sorted.begin());
  const auto equal = static_cast<double>(last - first);
  return (below + 0.5 * equal) / static_cast<double>(sorted.size());
}

/// Columns of values less their means, and what is known of each column before resampling.
class Centred {
 public:
  explicit Centred(MatrixView<const double> values)
      : offsets(values.shape()), means(values.cols()), squares(values.cols()), cubes(values.cols()) {
    for (std::size_t w = 0; w < values.rows(); ++w)
      for (std::size_t c = 0; c < values.cols(); ++c) means[c] += values(w, c);
    for (double& mean : means) mean /= static_cast<double>(values.rows());
    for (std::size_t w = 0; w < values.rows(); ++w)
      for (std::size_t c = 0; c < values.cols(); ++c) {
        const double offset = values(w, c) - means[c];
        offsets(w, c) = offset;
        squares[c] += offset * offset;
        cubes[c] += offset * offset * offset;
      }
  }

  /// Standard error of the mean with the spread of what was seen, as resamples have it too.
  double error(std::size_t column) const { return std::sqrt(squares[column]) / static_cast<double>(offsets.rows()); }
  /// Skewness of the mean by the jackknife (Efron 1987, eq. 6.6): for a mean that of the values over 6 sqrt(n).
  double acceleration(std::size_t column) const { return cubes[column] / (6 * std::pow(squares[column], 1.5)); }

  MatrixD offsets;
  std::vector<double> means, squares, cubes;
};

/// Resampled means less the mean that was seen, a row of the matrix each: [quantities x resamples], and the same over
/// each resample's own standard error (0 where it has none).
struct Draws {
  MatrixD offsets, ratios;
  std::vector<std::size_t> without_spread;  // resamples, per quantity
};

Draws draw(const Centred& centred, std::uint64_t seed, std::size_t resamples) {
  const std::size_t windows = centred.offsets.rows(), quantities = centred.offsets.cols();
  const auto n = static_cast<double>(windows);
  Draws draws{MatrixD(quantities, resamples), MatrixD(quantities, resamples), std::vector<std::size_t>(quantities)};
  Resamples indices(windows, seed);
  std::vector<double> sums(quantities), squares(quantities);
  for (std::size_t r = 0; r < resamples; ++r) {
    std::ranges::fill(sums, 0.0);
    std::ranges::fill(squares, 0.0);
    for (const std::size_t window : indices.next()) {
      const double* const row = centred.offsets.row(window).data();
      for (std::size_t c = 0; c < quantities; ++c) {
        sums[c] += row[c];
        squares[c] += row[c] * row[c];
      }
    }
    for (std::size_t c = 0; c < quantities; ++c) {
      const double offset = sums[c] / n, variance = squares[c] / n - offset * offset;
      const bool spread = variance > 1e-12 * squares[c] / n;  // below it is rounding
      draws.offsets(c, r) = offset;
      if (spread)
        draws.ratios(c, r) = offset / std::sqrt(variance / n);
      else
        ++draws.without_spread[c];
    }
  }
  return draws;
}

/// Both are sorted. tail: on either side.
Interval studentised(const Centred& centred, std::size_t c, std::span<const double> ratios, double tail) {
  return {centred.means[c] - percentile(ratios, 1 - tail) * centred.error(c),
          centred.means[c] - percentile(ratios, tail) * centred.error(c)};
}

Interval corrected(const Centred& centred, std::size_t c, std::span<const double> offsets, double tail) {
  const double edge = 0.5 / static_cast<double>(offsets.size());
  const double bias = normal_quantile(std::clamp(share_below(offsets, 0.0), edge, 1 - edge));
  const double a = centred.acceleration(c);
  const auto end = [&](double side) {
    const double z = bias + normal_quantile(side);
    return centred.means[c] + percentile(offsets, normal_cdf(bias + z / (1 - a * z)));
  };
  return {end(tail), end(1 - tail)};
}

ResampledMean infer(const Centred& centred, std::size_t c, Draws& draws) {
  const std::span<double> offsets = draws.offsets.row(c), ratios = draws.ratios.row(c);
  const double mean = centred.means[c];
  if (centred.squares[c] == 0) return {{mean, mean}, {mean, mean}, mean < 0 ? 1.0 : mean > 0 ? 0.0 : 0.5};
  std::ranges::sort(offsets);
  std::ranges::sort(ratios);
  const double without = static_cast<double>(draws.without_spread[c]) / static_cast<double>(offsets.size());
  const bool few = centred.offsets.rows() < kFewWindows || without > kMostWithoutSpread;
  const auto interval = [&](double tail) {
    return few ? corrected(centred, c, offsets, tail) : studentised(centred, c, ratios, tail);
  };
  return {interval(kTail95), interval(kTail90), share_below(offsets, -mean)};
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

template <typename T>
double percentile_of(std::span<const T> sorted, double fraction) {
  assert(!sorted.empty() && fraction >= 0 && fraction <= 1);
  const double place = fraction * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  const double low = sorted[below];
  return low + (place - static_cast<double>(below)) * (sorted[above] - low);
}

}  // namespace

double percentile(std::span<const double> sorted, double fraction) { return percentile_of(sorted, fraction); }
double percentile(std::span<const float> sorted, double fraction) { return percentile_of(sorted, fraction); }

std::vector<ResampledMean> bootstrap_means(MatrixView<const double> values, std::uint64_t seed, std::size_t resamples) {
  assert(resamples > 1);
  if (values.rows() < 2) return {};
  const Centred centred(values);
  Draws draws = draw(centred, seed, resamples);
  std::vector<ResampledMean> results;
  for (std::size_t c = 0; c < values.cols(); ++c) results.push_back(infer(centred, c, draws));
  return results;
}

std::optional<Interval> bootstrap_mean(std::span<const double> window_means, std::uint64_t seed,
                                       std::size_t resamples) {
  const auto results = bootstrap_means({window_means.data(), {window_means.size(), 1}}, seed, resamples);
  return results.empty() ? std::nullopt : std::optional(results.front().interval_95);
}

Interval wilson_interval(std::uint64_t hits, std::uint64_t trials) {
  assert(trials > 0 && hits <= trials);
  constexpr double kZ = 1.959963984540054, kZ2 = kZ * kZ;
  const auto n = static_cast<double>(trials);
  const double p = static_cast<double>(hits) / n;
  const double centre = (p + kZ2 / (2 * n)) / (1 + kZ2 / n);
  const double half = kZ / (1 + kZ2 / n) * std::sqrt(p * (1 - p) / n + kZ2 / (4 * n * n));
  return {hits == 0 ? 0 : centre - half, hits == trials ? 1 : centre + half};
}

std::optional<double> bootstrap_percentile_error(std::span<const WindowValue> sorted, std::size_t windows,
                                                 double fraction, std::uint64_t seed, std::size_t resamples) {
  assert(fraction >= 0 && fraction <= 1 && resamples > 1 && !sorted.empty() && sorted.size() % windows == 0);
  if (windows < 2) return std::nullopt;
  Resamples draws(windows, seed);
  std::vector<double> percentiles(resamples);
  for (double& result : percentiles) {
    std::vector<std::uint32_t> copies(windows);
    for (const std::size_t window : draws.next()) ++copies[window];
    result = resampled_percentile(sorted, copies, fraction);
  }
  return deviation_of(percentiles);
}

}  // namespace adze
