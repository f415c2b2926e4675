// Pictures: what is drawn, and where.
#include "report/line_chart.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>

#include "base/error.h"

namespace adze {
namespace {

using ::testing::HasSubstr;

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

LineChart chart() {
  return {"Sizes & losses",
          "MiB",
          "KL",
          {{"predicted", {{1, 0.1}, {2, 0.01}, {3, 0.001}}}, {"measured", {{2, 0.012, "two <MiB>"}}, false}}};
}

TEST(LineChart, DrawsLinesAndPoints) {
  const std::string svg = chart().svg();
  EXPECT_THAT(svg, ::testing::StartsWith("<svg "));
  EXPECT_THAT(svg, ::testing::EndsWith("</svg>\n"));
  EXPECT_EQ(count(svg, "<polyline"), 1U);
  EXPECT_EQ(count(svg, "<circle"), 1U);
  EXPECT_THAT(svg, HasSubstr("Sizes &amp; losses"));
  EXPECT_THAT(svg, HasSubstr("<title>two &lt;MiB&gt;</title>"));
  EXPECT_THAT(svg, HasSubstr(">0.01<"));  // a mark of the logarithmic axis
  EXPECT_EQ(svg, chart().svg());
}

/// Equal factors are equal distances upwards, equal differences are equal distances to the right.
TEST(LineChart, IsLogarithmicUpwards) {
  const std::string svg = chart().svg();
  std::smatch found;
  ASSERT_TRUE(std::regex_search(svg, found,
                                std::regex("points=\"([0-9.]+),([0-9.]+) ([0-9.]+),([0-9.]+) ([0-9.]+),([0-9.]+)\"")));
  const auto value = [&](int i) { return std::stod(found[static_cast<std::size_t>(i)]); };
  EXPECT_NEAR(value(3) - value(1), value(5) - value(3), 0.2);
  EXPECT_NEAR(value(4) - value(2), value(6) - value(4), 0.2);
  EXPECT_GT(value(3), value(1));
  EXPECT_GT(value(4), value(2));  // smaller losses lie lower
}

TEST(LineChart, LeavesOutWhatHasNoLogarithm) {
  LineChart odd = chart();
  odd.series[0].points.push_back({4, 0});
  odd.series[0].points.push_back({5, -1});
  EXPECT_EQ(count(odd.svg(), ","), count(chart().svg(), ","));
  odd.series = {{"nothing", {{1, 0}}}};
  EXPECT_THROW(odd.svg(), Error);
  odd.series = {{"one", {{1, 0.5, "alone"}}, false}};
  EXPECT_EQ(count(odd.svg(), "<circle"), 1U);
}

}  // namespace
}  // namespace adze
