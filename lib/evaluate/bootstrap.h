// Confidence intervals by resampling whole windows: tokens of a window are correlated, windows of a text hardly.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "base/matrix.h"

namespace adze {

struct Interval {
  double low = 0;
  double high = 0;
};

/// The value at fraction f of the sorted values: position f (n - 1), linear between neighbours. Sorted, not empty.
double percentile(std::span<const double> sorted, double fraction);

inline constexpr std::size_t kBootstrapResamples = 10000;
inline constexpr std::uint64_t kBootstrapSeed = 1;

/// 95 % interval of the mean of equally weighted windows: percentile bootstrap, bias-corrected and accelerated (Efron
/// 1987) below 100 windows. The indices drawn depend on the seed and the number of windows only, so statistics of the
/// same windows are resampled alike. Nothing for fewer than 2 windows.
std::optional<Interval> bootstrap_mean(std::span<const double> window_means, std::uint64_t seed = kBootstrapSeed,
                                       std::size_t resamples = kBootstrapResamples);

inline constexpr std::size_t kPercentileResamples = 1000;  // a standard error needs 200 (Efron, Tibshirani 1993, ch. 6)

/// Standard error of percentile() over the tokens of all windows: the standard deviation over the first of the same
/// resamples of whole windows that bootstrap_mean draws. `values`: [windows x tokens], finite. Rough where few tokens
/// lie beyond `fraction`: a resample can only repeat the tail that was seen, so the error of the 99.9 % percentile of
/// some thousand tokens is an order of magnitude and tends to be too small. Nothing for fewer than 2 windows.
std::optional<double> bootstrap_percentile_error(MatrixView<const double> values, double fraction,
                                                 std::uint64_t seed = kBootstrapSeed,
                                                 std::size_t resamples = kPercentileResamples);

}  // namespace adze
