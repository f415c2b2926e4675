#include <algorithm>
#include <cmath>
#include <numeric>

#include <gtest/gtest.h>

#include "evaluate/bootstrap.h"
#include "model/memory_source.h"

namespace adze {
namespace {

std::vector<double> normal_values(std::size_t count, std::string_view key) {
  RandomStream random(3, key);
  std::vector<double> values(count);
  for (double& value : values) value = 10.0 + 2.0 * random.normal();
  return values;
}

TEST(Percentile, InterpolatesBetweenSortedNeighbours) {
  const std::vector<double> values = {0, 1, 2, 3};
  EXPECT_DOUBLE_EQ(percentile(values, 0.9), 2.7);
  EXPECT_EQ(percentile(values, 0), 0);
  EXPECT_EQ(percentile(values, 1), 3);
  EXPECT_EQ(percentile(std::vector<double>{5}, 0.3), 5);
}

TEST(Bootstrap, OfEqualWindowsIsTheirValue) {
  for (const std::size_t count : {2, 150}) {
    const auto interval = bootstrap_mean(std::vector<double>(count, 0.25));
    ASSERT_TRUE(interval.has_value());
    EXPECT_EQ(interval->low, 0.25);
    EXPECT_EQ(interval->high, 0.25);
  }
}

TEST(Bootstrap, NeedsTwoWindows) {
  EXPECT_FALSE(bootstrap_mean(std::vector<double>{1.0}).has_value());
  EXPECT_FALSE(bootstrap_mean({}).has_value());
}

TEST(Bootstrap, OfTwoWindowsSpansThem) {
  // Means of resamples of {0, 1} are 0, 1/2, 1 with probabilities 1/4, 1/2, 1/4: both tails hold more than 2.5 %.
  const auto interval = bootstrap_mean(std::vector<double>{0, 1});
  EXPECT_EQ(interval->low, 0);
  EXPECT_EQ(interval->high, 1);
}

TEST(Bootstrap, IsTheNormalIntervalForManyNormalWindows) {
  for (const std::size_t count : {60, 400}) {
    const auto values = normal_values(count, "normal");
    const double n = static_cast<double>(count);
    const double mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
    double square = 0;
    for (const double value : values) square += (value - mean) * (value - mean);
    const double half = 1.96 * std::sqrt(square / n / n);
    const auto interval = bootstrap_mean(values);
    EXPECT_NEAR(interval->low, mean - half, 0.1 * half) << count;
    EXPECT_NEAR(interval->high, mean + half, 0.1 * half) << count;
  }
}

TEST(Bootstrap, LeansTowardsTheLongTailOfFewWindows) {
  std::vector<double> values = normal_values(40, "tail");
  for (double& value : values) value = std::exp(value / 2);
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / 40;
  const auto interval = bootstrap_mean(values);
  EXPECT_GT(interval->high - mean, 1.2 * (mean - interval->low));
}

TEST(Bootstrap, MovesAndScalesWithItsWindows) {
  const auto values = normal_values(50, "scale");
  std::vector<double> other;
  for (const double value : values) other.push_back(3 * value - 7);
  const auto a = bootstrap_mean(values), b = bootstrap_mean(other);
  EXPECT_NEAR(b->low, 3 * a->low - 7, 1e-9);
  EXPECT_NEAR(b->high, 3 * a->high - 7, 1e-9);
}

TEST(Bootstrap, DependsOnTheSeedOnly) {
  const auto values = normal_values(50, "seed");
  EXPECT_EQ(bootstrap_mean(values, 5)->low, bootstrap_mean(values, 5)->low);
  EXPECT_NE(bootstrap_mean(values, 5)->low, bootstrap_mean(values, 6)->low);
}

/// Standard error of a percentile of windows of `tokens` values each.
std::optional<double> percentile_error(const std::vector<double>& values, std::size_t tokens, double fraction,
                                       std::uint64_t seed = 1, std::size_t resamples = kPercentileResamples) {
  std::vector<WindowValue> sorted;
  for (std::size_t i = 0; i < values.size(); ++i)
    sorted.push_back({static_cast<float>(values[i]), static_cast<std::uint32_t>(i / tokens)});
  std::ranges::stable_sort(sorted, {}, &WindowValue::value);
  return bootstrap_percentile_error(sorted, values.size() / tokens, fraction, seed, resamples);
}

TEST(PercentileError, OfTwoFlatWindowsIsComputedByHand) {
  // Both windows are drawn with probability 1/2, each twice with 1/4. Of 0 0 0 1 1 1 the median is 1/2 and the 99.9 %
  // percentile 1: medians are 0, 1/2, 1 (variance 1/8), high percentiles 0, 1, 1 (variance 3/16).
  const std::vector<double> values = {0, 0, 0, 1, 1, 1};
  constexpr std::size_t kMany = 100'000;
  EXPECT_NEAR(*percentile_error(values, 3, 0.5, 1, kMany), std::sqrt(1.0 / 8), 5e-3);
  EXPECT_NEAR(*percentile_error(values, 3, 0.999, 1, kMany), std::sqrt(3.0 / 16), 5e-3);
  EXPECT_NEAR(*percentile_error(values, 3, 0.5), std::sqrt(1.0 / 8), 0.03);
}

TEST(PercentileError, IsZeroForWindowsOfTheSameTokensAndNothingForOneWindow) {
  EXPECT_NEAR(*percentile_error({3, 1, 2, 2, 3, 1, 1, 2, 3}, 3, 0.7), 0.0, 1e-12);
  EXPECT_EQ(percentile_error({1, 2, 3}, 3, 0.5), std::nullopt);
}

TEST(PercentileError, IsTheDeviationOfPercentilesOfResamplesThatWereSorted) {
  const auto values = normal_values(35, "brute");  // 7 windows of 5
  for (const double fraction : {0.0, 0.25, 0.5, 0.999, 1.0}) {
    RandomStream random(9, "evaluate/bootstrap");
    double sum = 0, square = 0;
    for (int resample = 0; resample < 200; ++resample) {
      std::vector<double> drawn;
      for (int w = 0; w < 7; ++w) {
        const auto first = values.begin() + static_cast<std::ptrdiff_t>(5 * random.below(7));
        drawn.insert(drawn.end(), first, first + 5);
      }
      std::ranges::sort(drawn);
      const double value = percentile(drawn, fraction);
      sum += value;
      square += value * value;
    }
    const double expected = std::sqrt((square - sum * sum / 200) / 199);
    EXPECT_NEAR(*percentile_error(values, 5, fraction, 9, 200), expected, 1e-6) << fraction;
  }
}

TEST(PercentileError, OfTheMedianOfManyNormalTokensIsTheKnownOne) {
  // sigma sqrt(pi / (2 n)), with sigma = 2; independent tokens, so that windows play no part.
  const auto values = normal_values(8000, "median");
  const double expected = 2 * std::sqrt(std::acos(-1.0) / (2 * 8000));
  EXPECT_NEAR(*percentile_error(values, 20, 0.5), expected, 0.15 * expected);
}

}  // namespace
}  // namespace adze
