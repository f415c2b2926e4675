// Bars, intervals, strips and heat maps: what is drawn, where, and the data behind it.
#include <cmath>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "checkpoint/checkpoint_testing.h"
#include "report/chart/bar_chart.h"
#include "report/chart/heat_map.h"
#include "report/chart/interval_chart.h"
#include "report/chart/strip_chart.h"
#include "report/report_testing.h"

namespace adze {
namespace {

using testing::all_of;
using testing::count;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::numbers_of;
using ::testing::SizeIs;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Coordinates are numbers, and lie in the picture.
void expect_sane(const Picture& picture) {
  EXPECT_THAT(picture.marks, Not(HasSubstr("\"nan")));
  EXPECT_THAT(picture.marks, Not(HasSubstr("\"inf")));
  EXPECT_THAT(picture.marks, Not(HasSubstr("\"-")));  // nothing left of or above the picture
  for (const double x : numbers_of(picture.marks, " x2?=\"([0-9.]+)\"")) EXPECT_LE(x, picture.width);
  for (const double y : numbers_of(picture.marks, " y2?=\"([0-9.]+)\"")) EXPECT_LE(y, picture.height);
}

BarChart bars() { return {"Sizes", "file", "MiB", {"original", "made"}, {{"a", {4, 1}}, {"b", {2, kNan}}}}; }

std::vector<double> widths(const BarChart& chart, const std::string& series) {
  return numbers_of(chart.picture().marks, "width=\"([0-9.]+)\" height=\"16\" class=\"" + series + "\"");
}

TEST(BarChart, BarsAreAsLongAsTheirValues) {
  const std::vector<double> first = widths(bars(), "f0"), second = widths(bars(), "f1");
  ASSERT_THAT(first, SizeIs(2));
  ASSERT_THAT(second, SizeIs(1));  // no bar for what is no number
  EXPECT_NEAR(first[0], 2 * first[1], 0.2);
  EXPECT_NEAR(first[0], 4 * second[0], 0.3);
  expect_sane(bars().picture());
}

TEST(BarChart, StackedBarsBeginWhereTheOneBeforeEnds) {
  BarChart stacked = bars();
  stacked.style = BarStyle::stacked;
  stacked.rows = {{"a", {4, 1}}, {"b", {2, 3}}};
  const std::string marks = stacked.picture().marks;
  const auto x = [&](const std::string& series) {
    return numbers_of(marks, "<rect x=\"([0-9.]+)\"[^>]*height=\"16\" class=\"" + series + "\"");
  };
  const std::vector<double> begins = x("f1"), lefts = x("f0"), lengths = widths(stacked, "f0");
  ASSERT_THAT(begins, SizeIs(2));
  for (std::size_t i = 0; i < 2; ++i) EXPECT_NEAR(begins[i], lefts[i] + lengths[i], 0.2);
  EXPECT_NEAR(lengths[0] + widths(stacked, "f1")[0], lengths[1] + widths(stacked, "f1")[1], 0.2);  // 5 and 5
}

TEST(BarChart, ItsTableHoldsEveryValue) { EXPECT_EQ(bars().table().csv(), "file,original,made\r\na,4,1\r\nb,2,\r\n"); }

TEST(BarChart, ValuesBelowZeroGoToTheLeft) {
  BarChart both = bars();
  both.rows = {{"a", {-2, 2}}};
  const std::string marks = both.picture().marks;
  const std::vector<double> x = numbers_of(marks, "<rect x=\"([0-9.]+)\"[^>]*height=\"16\" class=\"f[01]\"");
  ASSERT_THAT(x, SizeIs(2));
  EXPECT_LT(x[0], x[1]);
  expect_sane(both.picture());
}

IntervalChart forest() {
  return {"Domains",
          "domain",
          {"change"},
          {{"code", 0.2, 0.1, 0.3}, {"prose", 0.01, -0.1, 0.12}, {"talk", -0.3, -0.4, -0.2, "few"}, {"x", 0.05}},
          ReferenceLine{0, "no change"}};
}

TEST(IntervalChart, FillsWhatExcludesTheReference) {
  const std::string marks = forest().picture().marks;
  const std::string panel = marks.substr(marks.find("class=\"axis\""));  // behind the legend
  EXPECT_EQ(count(panel, "class=\"f0\""), 2U);
  EXPECT_EQ(count(panel, "class=\"hollow l0\""), 2U);
  EXPECT_THAT(marks, HasSubstr("talk: -0.3 (-0.4 to -0.2)\nfew"));
  IntervalChart alone = forest();
  alone.reference.reset();
  EXPECT_EQ(count(alone.picture().marks, "class=\"f0\""), 4U);
  EXPECT_EQ(count(alone.picture().marks, "class=\"reference\""), 0U);
  expect_sane(forest().picture());
}

TEST(IntervalChart, ItsTableHoldsEveryNumber) {
  EXPECT_EQ(forest().table().csv(),
            "domain,change,low,high,note\r\ncode,0.2,0.1,0.3,\r\nprose,0.01,-0.1,0.12,\r\ntalk,-0.3,-0.4,-0.2,few\r\n"
            "x,0.05,,,\r\n");
}

TEST(StripChart, DrawsADotPerValueAndAStrokePerMedian) {
  const StripChart strips{
      "Draws",      "set", {"KL"}, {"gptq", "rtn"}, {{"a", {{3, 1, 2}, {5, 5, 5, 5}}}, {"b", {{}, {kNan, 4}}}},
      {{6, "none"}}};
  const Picture picture = strips.picture();
  EXPECT_EQ(count(picture.marks, "<circle"), 1U + 3U);   // one in the legend
  EXPECT_EQ(count(picture.marks, "<polygon"), 1U + 5U);  // squares
  EXPECT_THAT(picture.marks, HasSubstr("a, gptq: median 2<"));
  EXPECT_THAT(picture.marks, HasSubstr("b, rtn: median 4<"));
  EXPECT_EQ(count(picture.marks, ": median"), 3U);
  EXPECT_EQ(strips.table().rows().size(), 9U);
  expect_sane(picture);
}

TEST(StripChart, DotsOfOneValueStepAside) {
  StripChart strips{"Draws", "set", {"KL"}, {"gptq"}, {{"a", {{1, 1, 1, 2}}}}};
  const std::vector<double> y = numbers_of(strips.picture().marks, "cy=\"([0-9.]+)\" r=\"3.2\"");
  ASSERT_THAT(y, SizeIs(4));
  EXPECT_NE(y[0], y[1]);
  EXPECT_NE(y[1], y[2]);
  EXPECT_NE(y[0], y[2]);
  EXPECT_EQ(y[0], y[3]);
}

HeatMap map() { return {"Losses", "module", "layer", "loss", {"q", "k"}, {"0", "1", "2"}, {1, 10, 100, 1, kNan, 0}}; }

TEST(HeatMap, ShadesGrowWithValuesAsTheAxisDoes) {
  HeatMap losses = map();
  const auto shades = [](const HeatMap& one) {
    return all_of(one.picture().marks, "height=\"23\" class=\"([a-z0-9 ]+)\"");
  };
  EXPECT_THAT(shades(losses), ElementsAre("q0", "q2", "q24", "q0", "q0"));
  losses.kind = AxisKind::log10;
  EXPECT_THAT(shades(losses), ElementsAre("q0", "q12", "q24", "q0", "empty"));
  EXPECT_THAT(losses.picture().marks, HasSubstr("<title>k, 2: 0</title>"));
  expect_sane(losses.picture());
}

TEST(HeatMap, DeviationsReachAsFarToBothSides) {
  HeatMap regret = map();
  regret.palette = Palette::diverging;
  regret.values = {0, 1, -0.5, 0.01, -0.01, kNan};
  regret.noise = 0.02;
  regret.marks_diagonal = true;
  const std::string marks = regret.picture().marks;
  EXPECT_THAT(all_of(marks, "height=\"23\" class=\"([a-z0-9 ]+)\""),
              ElementsAre("d12 noise", "d24", "d6", "d12 noise", "d12 noise", "frame", "frame"));
  EXPECT_THAT(marks, HasSubstr("q, 1: 1<"));
  EXPECT_THAT(marks, HasSubstr("k, 0: 0.01 (noise)<"));
}

TEST(HeatMap, WritesNumbersWhereCellsAreWide) {
  EXPECT_EQ(count(map().picture().marks, "text-anchor=\"middle\" class=\"small label on "), 5U);
  HeatMap wide{"wide", "module", "layer", "loss", {"q"}, {}, {}};
  for (int i = 0; i < 80; ++i) {
    wide.columns.push_back(std::to_string(i));
    wide.values.push_back(i);
  }
  EXPECT_EQ(count(wide.picture().marks, "small label on "), 0U);
  EXPECT_LE(wide.picture().width, 760);
  // Names of columns keep their distance.
  const std::vector<double> x = numbers_of(wide.picture().marks, "<text x=\"([0-9.]+)\"[^>]*class=\"muted\">[0-9]+<");
  ASSERT_GT(x.size(), 10U);
  for (std::size_t i = 1; i < x.size(); ++i) EXPECT_GE(x[i] - x[i - 1], text_width("79"));
  expect_sane(wide.picture());
}

TEST(HeatMap, ManyColumnsMakeAWiderPicture) {
  HeatMap wide{
      "wide", "module", "layer", "loss", {"q"}, std::vector<std::string>(300, "7"), std::vector<double>(300, 1)};
  EXPECT_GT(wide.picture().width, 300 * 7);
  expect_sane(wide.picture());
}

TEST(HeatMap, ItsTableIsLongRatherThanWide) {
  EXPECT_EQ(map().table().csv(), "module,0,1,2\r\nq,1,10,100\r\nk,1,,0\r\n");
  HeatMap wide{"wide", "module", "layer", "loss", {"q", "k"}, {}, {}};
  for (int i = 0; i < 40; ++i) wide.columns.push_back(std::to_string(i));
  for (int i = 0; i < 80; ++i) wide.values.push_back(i);
  const Table table = wide.table();
  EXPECT_EQ(table.rows().size(), 40U);
  EXPECT_THAT(table.rows()[3], ElementsAre("3", "3", "43"));
}

TEST(HeatMap, AWrongNumberOfValuesIsOurMistake) {
  HeatMap wrong = map();
  wrong.values.pop_back();
  testing::expect_error(ErrorKind::internal, "2 x 3 cells with 5 values", [&] { wrong.picture(); });
}

TEST(Charts, SurviveWhatCannotBeShown) {
  BarChart no_bars = bars();
  no_bars.rows.clear();
  IntervalChart no_intervals = forest();
  no_intervals.rows.clear();
  const StripChart no_strips{"Draws", "set", {"KL"}, {}, {}};
  const HeatMap no_map{"Losses", "module", "layer", "loss", {}, {}, {}};
  HeatMap nan_map = map();
  nan_map.values.assign(6, kNan);
  HeatMap same_map = map();
  same_map.values.assign(6, 5);
  BarChart odd_bars = bars();
  odd_bars.rows = {{"a", {kNan, kInfinity}}, {"b", {}}};
  IntervalChart odd_intervals = forest();
  odd_intervals.axis.kind = AxisKind::log10;
  odd_intervals.rows = {{"a", kNan, kNan, kNan}, {"b", kInfinity, -kInfinity, kInfinity}, {"c", 0, 0, 0}};
  for (const Picture& picture : {no_bars.picture(), no_intervals.picture(), no_strips.picture(), no_map.picture(),
                                 nan_map.picture(), same_map.picture(), odd_bars.picture(), odd_intervals.picture()})
    expect_sane(picture);
  for (const Picture& picture : {no_bars.picture(), no_intervals.picture(), no_strips.picture(), no_map.picture()})
    EXPECT_THAT(picture.marks, HasSubstr("nothing to show"));
}

TEST(Charts, LongNamesAreCutAndShownWhole) {
  const std::string name(200, 'n');
  BarChart long_bars = bars();
  long_bars.rows[0].name = name;
  const std::string marks = long_bars.picture().marks;
  EXPECT_THAT(marks, HasSubstr(std::string(29, 'n') + "…<"));
  EXPECT_THAT(marks, HasSubstr("<title>" + name + "</title>"));
  expect_sane(long_bars.picture());
}

}  // namespace
}  // namespace adze
