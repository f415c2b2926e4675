// Axes: places of values, and marks that are round, in order, inside, and neither too few nor too many.
#include "report/chart/axis.h"

#include <cmath>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace adze {
namespace {

using ::testing::ElementsAre;

AxisRange range_of(AxisKind kind, std::initializer_list<double> values) {
  AxisRange range(kind);
  for (const double value : values) range.add(value);
  return range;
}

std::vector<std::string> texts(const Scale& scale, double spacing) {
  std::vector<std::string> words;
  for (const Tick& tick : scale.ticks(spacing)) words.push_back(tick.text);
  return words;
}

TEST(AxisRange, LeavesOutWhatItsAxisCannotShow) {
  const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
  const AxisRange linear = range_of(AxisKind::linear, {nan, -1, infinity, 2, -infinity});
  EXPECT_EQ(linear.least(), -1);
  EXPECT_EQ(linear.most(), 2);
  const AxisRange logarithmic = range_of(AxisKind::log10, {0, -1, 3, nan, 2, infinity});
  EXPECT_EQ(logarithmic.least(), 2);
  EXPECT_EQ(logarithmic.most(), 3);
  EXPECT_TRUE(range_of(AxisKind::log2, {0, -5}).empty());
}

TEST(Scale, MarksAreRound) {
  EXPECT_THAT(texts(Scale(range_of(AxisKind::linear, {0, 1}), 0, 500, 0), 100),
              ElementsAre("0", "0.2", "0.4", "0.6", "0.8", "1"));
  EXPECT_THAT(texts(Scale(range_of(AxisKind::linear, {-0.3, 0.3}), 0, 400, 0), 100), ElementsAre("-0.2", "0", "0.2"));
  EXPECT_THAT(texts(Scale(range_of(AxisKind::log10, {0.01, 1}), 0, 800, 0), 80),
              ElementsAre("0.01", "0.02", "0.05", "0.1", "0.2", "0.5", "1"));
  EXPECT_THAT(texts(Scale(range_of(AxisKind::log10, {1e-5, 100}), 0, 800, 0), 80),
              ElementsAre("10⁻⁵", "10⁻⁴", "0.001", "0.01", "0.1", "1", "10", "100"));
  EXPECT_THAT(texts(Scale(range_of(AxisKind::log2, {8, 128}), 0, 800, 0), 80),
              ElementsAre("8", "16", "32", "64", "128"));
}

TEST(Scale, KeepsDistancesOfItsKind) {
  const Scale linear(range_of(AxisKind::linear, {2, 10}), 100, 0, 0);
  EXPECT_DOUBLE_EQ(linear.place(2), 100);
  EXPECT_DOUBLE_EQ(linear.place(6), 50);
  EXPECT_DOUBLE_EQ(linear.place(10), 0);
  const Scale logarithmic(range_of(AxisKind::log10, {1, 100}), 0, 100, 0);
  EXPECT_NEAR(logarithmic.place(10), 50, 1e-9);
}

class AnyRange : public ::testing::TestWithParam<AxisKind> {};

TEST_P(AnyRange, HasAFewMarksInsideAndInOrder) {
  for (const double least : {1e-12, 3e-4, 0.77, 1.0, 999.0, 1e9})
    for (const double factor : {1.0, 1.0001, 1.3, 7.0, 1e3, 1e9, 1e30}) {
      const Scale scale(range_of(GetParam(), {least, least * factor}), 50, 650);
      for (const double spacing : {48.0, 80.0, 300.0}) {
        const std::vector<Tick> ticks = scale.ticks(spacing);
        ASSERT_GE(ticks.size(), 1U) << least << " " << factor;
        EXPECT_LE(static_cast<double>(ticks.size()), 600 / spacing + 2) << least << " " << factor;
        for (std::size_t i = 0; i < ticks.size(); ++i) {
          const double place = scale.place(ticks[i].value);
          EXPECT_GE(place, 50 - 1e-6) << ticks[i].text;
          EXPECT_LE(place, 650 + 1e-6) << ticks[i].text;
          if (i > 0) {
            EXPECT_GT(place, scale.place(ticks[i - 1].value));
          }
        }
      }
    }
}

INSTANTIATE_TEST_SUITE_P(Kinds, AnyRange, ::testing::Values(AxisKind::linear, AxisKind::log10, AxisKind::log2));

TEST(Scale, NothingAndOneValueHaveAPlace) {
  for (const AxisKind kind : {AxisKind::linear, AxisKind::log10, AxisKind::log2}) {
    EXPECT_FALSE(Scale(range_of(kind, {}), 0, 100).ticks(20).empty());
    for (const double value : {1e-300, 5.0, 1e300})
      EXPECT_NEAR(Scale(range_of(kind, {value}), 0, 100).place(value), 50, 1e-6) << value;
  }
  EXPECT_NEAR(Scale(range_of(AxisKind::linear, {0}), 0, 100).place(0), 50, 1e-9);
  EXPECT_NEAR(Scale(range_of(AxisKind::linear, {-3}), 0, 100).place(-3), 50, 1e-9);
}

}  // namespace
}  // namespace adze
