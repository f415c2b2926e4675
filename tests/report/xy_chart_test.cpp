// Curves and points: what is drawn, and where.
#include "report/chart/xy_chart.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "report/report_testing.h"

namespace adze {
namespace {

using testing::all_of;
using testing::count;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::numbers_of;
using ::testing::SizeIs;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

XyChart chart() {
  return {
      "Sizes & losses",
      {"MiB"},
      {"KL", AxisKind::log10},
      {{"predicted", {{1, 0.1}, {2, 0.01}, {3, 0.001}}}, {"measured", {{2, 0.012, "two <MiB>"}}, SeriesStyle::points}}};
}

std::vector<double> places(const std::string& svg) {
  const std::vector<std::string> lines = all_of(svg, "<polyline points=\"([^\"]*)\"");
  return lines.empty() ? std::vector<double>{} : numbers_of(lines[0], "([0-9.]+)");
}

TEST(XyChart, DrawsLinesAndPoints) {
  const std::string svg = chart().picture().file();
  EXPECT_THAT(svg, ::testing::StartsWith("<svg "));
  EXPECT_THAT(svg, ::testing::EndsWith("</svg>\n"));
  EXPECT_EQ(count(svg, "<polyline"), 1U);
  EXPECT_THAT(svg, HasSubstr("Sizes &amp; losses"));
  EXPECT_THAT(svg, HasSubstr("two &lt;MiB&gt;"));
  EXPECT_THAT(svg, HasSubstr(">0.01<"));  // a mark of the logarithmic axis
  EXPECT_EQ(svg, chart().picture().file());
}

/// Equal factors are equal distances upwards, equal differences are equal distances to the right.
TEST(XyChart, AxesKeepDistances) {
  const std::vector<double> at = places(chart().picture().marks);
  ASSERT_THAT(at, SizeIs(6));
  EXPECT_NEAR(at[2] - at[0], at[4] - at[2], 0.2);
  EXPECT_NEAR(at[3] - at[1], at[5] - at[3], 0.2);
  EXPECT_GT(at[2], at[0]);
  EXPECT_GT(at[3], at[1]);  // smaller losses lie lower
}

TEST(XyChart, ALineIsInterruptedWhereAPointCannotBeShown) {
  XyChart odd = chart();
  odd.series.resize(1);
  odd.series[0].points = {{1, 0.1}, {2, 0.2}, {3, 0}, {4, 0.1}, {5, kNan}, {6, -1}, {7, 0.3}, {8, 0.1}};
  const std::vector<std::string> lines = all_of(odd.picture().marks, "<polyline points=\"([^\"]*)\"");
  ASSERT_THAT(lines, SizeIs(3));
  EXPECT_THAT(numbers_of(lines[0], "([0-9.]+)"), SizeIs(4));
  EXPECT_THAT(numbers_of(lines[1], "([0-9.]+)"), SizeIs(2));
  EXPECT_THAT(numbers_of(lines[2], "([0-9.]+)"), SizeIs(4));
}

TEST(XyChart, SaysWhenThereIsNothingToShow) {
  XyChart empty = chart();
  empty.series = {{"nothing", {{1, 0}, {kNan, 1}}}};
  const std::string marks = empty.picture().marks;
  EXPECT_THAT(marks, HasSubstr("nothing to show"));
  EXPECT_EQ(count(marks, "nan"), 0U);
  empty.series.clear();
  EXPECT_THAT(empty.picture().marks, HasSubstr("nothing to show"));
}

TEST(XyChart, OnePointHasRoomAroundIt) {
  for (const AxisKind kind : {AxisKind::linear, AxisKind::log10, AxisKind::log2})
    for (const double value : {1.0, 1e-9, 1e12}) {
      const XyChart one{"one", {"x", kind}, {"y", kind}, {{"", {{value, value, "alone"}}, SeriesStyle::points}}};
      const Picture picture = one.picture();
      EXPECT_EQ(count(picture.marks, "nan") + count(picture.marks, "inf"), 0U) << value;
      const std::vector<double> x = numbers_of(picture.marks, "<circle cx=\"([0-9.]+)\"");
      ASSERT_THAT(x, SizeIs(1));
      EXPECT_GT(x[0], 100);
      EXPECT_LT(x[0], picture.width - 100);
    }
}

TEST(XyChart, IntervalsAreRibbonsOfLinesAndWhiskersOfPoints) {
  XyChart wide = chart();
  wide.series.resize(1);
  for (ChartPoint& point : wide.series[0].points) {
    point.low = point.y / 2;
    point.high = point.y * 2;
  }
  const std::vector<std::string> ribbons = all_of(wide.picture().marks, "<polygon points=\"([^\"]*)\" class=\"r0\"");
  ASSERT_THAT(ribbons, SizeIs(1));
  EXPECT_THAT(numbers_of(ribbons[0], "([0-9.]+)"), SizeIs(12));
  wide.series[0].style = SeriesStyle::points;
  EXPECT_EQ(count(wide.picture().marks, "<line") - count(wide.picture().marks, "class=\"grid\"") -
                count(wide.picture().marks, "class=\"axis\""),
            3U);
}

TEST(XyChart, NamesOfPointsDoNotLieOnEachOther) {
  XyChart crowded{"crowd", {"x"}, {"y"}, {{"", {}, SeriesStyle::named_points}}};
  for (int i = 0; i < 60; ++i)
    crowded.series[0].points.push_back({i % 8 * 1.0, i / 8 * 1.0, "a point with a name " + std::to_string(i)});
  const std::string marks = crowded.picture().marks;
  const std::string text = "<text x=\"([0-9.]+)\" y=\"[0-9.]+\" text-anchor=\"start\" class=\"small label halo\"";
  const std::string text_y = "<text x=\"[0-9.]+\" y=\"([0-9.]+)\" text-anchor=\"start\" class=\"small label halo\"";
  const std::vector<double> x = numbers_of(marks, text), y = numbers_of(marks, text_y);
  ASSERT_GT(x.size(), 5U);
  const double width = text_width("a point with a name 1");
  for (std::size_t i = 0; i < x.size(); ++i)
    for (std::size_t j = i + 1; j < x.size(); ++j)
      EXPECT_FALSE(std::abs(x[i] - x[j]) < width && std::abs(y[i] - y[j]) < kTextHeight - 0.2) << i << " " << j;
}

TEST(XyChart, TheTableHoldsEveryPoint) {
  XyChart all = chart();
  all.references.push_back({0.5, "floor"});
  EXPECT_EQ(all.table().csv(),
            "series,MiB,KL,label\r\npredicted,1,0.1,\r\npredicted,2,0.01,\r\npredicted,3,0.001,\r\n"
            "measured,2,0.012,two <MiB>\r\nfloor,,0.5,\r\n");
  all.series[0].points[0].low = 0.05;
  all.series[0].points[0].high = 0.2;
  EXPECT_THAT(all.table().csv(), HasSubstr("predicted,1,0.1,0.05,0.2,\r\n"));
}

TEST(Front, HoldsWhatNoOtherPointBeats) {
  const auto front = front_of({{3, 1}, {1, 5}, {2, 5}, {2, 3}, {kNan, 0}, {4, 2}, {3, 1}});
  std::vector<double> sizes;
  for (const ChartPoint& point : front) sizes.push_back(point.x);
  EXPECT_THAT(sizes, ElementsAre(1, 2, 3));
  EXPECT_TRUE(front_of({}).empty());
}

}  // namespace
}  // namespace adze
