// Confidence intervals by resampling whole windows: tokens of a window are correlated, windows of a text hardly.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/matrix.h"

namespace adze {

struct Interval {
  double low = 0;
  double high = 0;
};

/// The value at fraction f of the sorted values: position f (n - 1), linear between neighbours. Sorted, not empty.
double percentile(std::span<const double> sorted, double fraction);
double percentile(std::span<const float> sorted, double fraction);

inline constexpr std::size_t kBootstrapResamples = 10000;
inline constexpr std::uint64_t kBootstrapSeed = 1;

/// 95 % interval of the mean of equally weighted windows. From 10 windows on that of the studentised bootstrap
/// (bootstrap-t; Efron, Tibshirani 1993, ch. 12): where windows are skewed, as KL is, plain percentiles and BCa cover
/// the true mean too rarely (docs/evaluation.md has figures). With fewer windows, or where many resamples have no
/// spread to divide by (one window differs, the others are equal), BCa (Efron 1987). The indices drawn depend on the
/// seed and the number of windows only, so statistics of the same windows are resampled alike. Nothing for fewer than 2
/// windows.
std::optional<Interval> bootstrap_mean(std::span<const double> window_means, std::uint64_t seed = kBootstrapSeed,
                                       std::size_t resamples = kBootstrapResamples);

/// What resampling says of one mean.
struct ResampledMean {
  Interval interval_95;
  Interval interval_90;    ///< for two one-sided tests at 5 %
  double share_below = 0;  ///< of resampled means below 0, half of those at 0
};

/// The same of many quantities of the same windows, whose resamples are shared. `values`: [windows x quantities]; one
/// result a column, or none for fewer than 2 windows.
std::vector<ResampledMean> bootstrap_means(MatrixView<const double> values, std::uint64_t seed = kBootstrapSeed,
                                           std::size_t resamples = kBootstrapResamples);

/// 95 % interval of a share seen `hits` times in `trials` (Wilson 1927). trials > 0.
Interval wilson_interval(std::uint64_t hits, std::uint64_t trials);

inline constexpr std::size_t kPercentileResamples = 1000;  // a standard error needs 200 (Efron, Tibshirani 1993, ch. 6)

/// A token's value and its window's number.
struct WindowValue {
  float value = 0;
  std::uint32_t window = 0;
};

/// Standard error of percentile() over the tokens of all windows: the standard deviation over the first of the same
/// resamples of whole windows that bootstrap_mean draws. `sorted`: by value, finite, equally many of each of the
/// `windows`. Rough where few tokens lie beyond `fraction`: a resample can only repeat the tail that was seen, so the
/// error of the 99.9 % percentile of some thousand tokens is an order of magnitude and tends to be too small. Nothing
/// for fewer than 2 windows.
std::optional<double> bootstrap_percentile_error(std::span<const WindowValue> sorted, std::size_t windows,
                                                 double fraction, std::uint64_t seed = kBootstrapSeed,
                                                 std::size_t resamples = kPercentileResamples);

}  // namespace adze
