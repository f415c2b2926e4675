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
  for (const std::size_t count : {60, 400}) {  // bias-corrected below 100, plain above
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

}  // namespace
}  // namespace adze
