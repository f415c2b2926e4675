// Pages: structure, escaping, size; and, in a real browser, that they look as they should.
#include "report/page.h"

#include <cmath>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "report/browser.h"
#include "report/chart/bar_chart.h"
#include "report/chart/heat_map.h"
#include "report/chart/interval_chart.h"
#include "report/chart/strip_chart.h"
#include "report/chart/xy_chart.h"
#include "report/report_testing.h"
#include "text/utf8.h"

namespace adze {
namespace {

namespace fs = std::filesystem;
using testing::all_of;
using testing::count;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::StartsWith;

const std::vector<std::string> kLinears{"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"};

/// Losses of a model of so many layers, as smooth as real ones.
HeatMap losses(std::size_t layers) {
  HeatMap map{"Relative loss", "module", "layer", "J / tr(W H Wᵀ)", kLinears, {}, {}};
  map.kind = AxisKind::log10;
  for (std::size_t layer = 0; layer < layers; ++layer) map.columns.push_back(std::to_string(layer));
  for (std::size_t linear = 0; linear < kLinears.size(); ++linear)
    for (std::size_t layer = 0; layer < layers; ++layer)
      map.values.push_back(std::exp(-8 + 0.5 * static_cast<double>(linear) + std::sin(static_cast<double>(layer))));
  return map;
}

XyChart depth(const HeatMap& map) {
  XyChart chart{"Loss along depth", {"layer"}, {"relative loss", AxisKind::log10}, {}};
  for (std::size_t r = 0; r < map.rows.size(); ++r) {
    ChartSeries series{map.rows[r], {}};
    for (std::size_t c = 0; c < map.columns.size(); ++c)
      series.points.push_back({static_cast<double>(c), map.at(r, c)});
    chart.series.push_back(std::move(series));
  }
  return chart;
}

XyChart front() {
  XyChart chart{"Size and quality", {"MiB"}, {"KL", AxisKind::log10}, {}, {{0.02, "as published"}}};
  ChartSeries models{"models", {}, SeriesStyle::named_points};
  for (int i = 0; i < 12; ++i)
    models.points.push_back(
        {4 + 0.4 * i, 0.3 * std::exp(-0.4 * i) * (1 + 0.2 * std::sin(5 * i)), "model " + std::to_string(i)});
  chart.series = {{"front", front_of(models.points)}, models, {"the choice", {models.points[4]}, SeriesStyle::chosen}};
  chart.series[0].looks_like = 1;
  return chart;
}

XyChart ribbons() {
  XyChart chart{"Outcome and windows", {"windows", AxisKind::log2}, {"KL"}, {{"gptq", {}}, {"rtn", {}}}};
  for (int power = 3; power < 10; ++power) {
    const double mean = 0.1 / power, windows = std::pow(2, power);
    chart.series[0].points.push_back({windows, mean, "", 0.9 * mean, 1.1 * mean});
    chart.series[1].points.push_back({windows, 0.05});
  }
  return chart;
}

HeatMap regret() {
  const std::vector<std::string> sets{"arithmetic", "code", "dialogue", "encyclopedia", "narrative"};
  HeatMap map{"Mismatch of sets", "calibrated on", "judged on", "log regret", sets, sets, {}, Palette::diverging};
  for (int i = 0; i < 25; ++i) map.values.push_back(i % 6 == 0 ? 0 : 0.3 * std::sin(2.1 * i));
  map.values[7] = std::nan("");
  map.marks_diagonal = true;
  map.noise = 0.05;
  return map;
}

StripChart draws() {
  StripChart strips{"Outcomes over draws", "source", {"KL"}, {"gptq", "wanda"}, {}, {{0.06, "rtn"}}};
  for (const char* const source : {"code", "narrative", "encyclopedia"}) {
    StripRow row{source, {{}, {}}};
    for (int i = 0; i < 12; ++i) {
      row.values[0].push_back(0.04 + 0.002 * std::sin(7.7 * i));
      row.values[1].push_back(0.045 + 0.004 * std::sin(3.3 * i + 1));
    }
    strips.rows.push_back(std::move(row));
  }
  return strips;
}

constexpr std::size_t kFigures = 9;

/// Every kind of content, every kind of chart.
Page whole_page(std::size_t layers) {
  Page page("A page of everything", "what a report may hold", "adze");
  Table table({{"tensor", Align::left}, {"bytes"}});
  table.add_row({"layers.0.self_attn.q_proj", "4096"});
  page.section("Summary")
      .tiles({{"Size", "4.21 MiB", "28 % of 15.0 MiB"}, {"Mean KL", "0.0123±0.0004", "0.0115 to 0.0131"}})
      .warnings({"layers.3.mlp.down_proj: rounded to nearest, because H is not positive definite"})
      .facts({{"model", "demo-llama"}, {"hash", std::string(64, 'f')}})
      .text("One paragraph.")
      .table(table, "One table.");
  const HeatMap map = losses(layers);
  page.section("Layers").figure(map, "By layer and module.").figure(depth(map), "The same as lines.");
  page.section("Sizes")
      .figure(front(), "No model below the line is known.")
      .figure(BarChart{"Files", "file", "MiB", {"before", "after"}, {{"model.gguf", {15, 4.2}}, {"store", {15, 4.3}}}},
              "Bytes.")
      .figure(BarChart{"Time", "step", "s", {"solve", "measure"}, {{"all", {3, 4}}}, BarStyle::stacked}, "Seconds.");
  page.section("Sets")
      .figure(regret(), "Rows calibrate, columns judge.")
      .figure(ribbons(), "More text helps less and less.")
      .figure(draws(), "One dot per draw.")
      .figure(IntervalChart{"Domains",
                            "domain",
                            {"change of NLL"},
                            {{"code", 0.02, 0.01, 0.03}, {"dialogue", 0.001, -0.004, 0.006}, {"unknown", 0.015}},
                            ReferenceLine{0, "no change"}},
              "Which changes are more than noise.");
  page.section("Exemplars")
      .excerpts(
          {{"window 3", {{"The fox ", 0}, {"jumps", 0.9, "KL 2.3"}, {" over", 0.3, "KL 0.5"}}, "expected: leaps"}})
      .file("recipe.yaml", "adze: 1\n");
  return page;
}

TEST(Page, SaysWhatItHolds) {
  const std::string html = whole_page(4).html();
  EXPECT_THAT(html, StartsWith("<!doctype html>\n<html lang=\"en\">"));
  EXPECT_EQ(count(html, "<section "), 5U);
  EXPECT_EQ(count(html, "<figure "), kFigures);
  EXPECT_EQ(count(html, "<svg "), kFigures);
  EXPECT_EQ(count(html, "download=\"figure-"), kFigures);
  EXPECT_EQ(count(html, "<table>"), kFigures + 1);
  EXPECT_THAT(html, HasSubstr("<li><a href=\"#section-2\">Layers</a></li>"));
  EXPECT_THAT(html, HasSubstr("<mark class=\"w4\" title=\"KL 2.3\">jumps</mark>"));
  EXPECT_EQ(html, whole_page(4).html());
}

/// Every tag that is opened is closed, in order.
TEST(Page, IsWellFormed) {
  const std::string html = whole_page(4).html();
  const std::string body = html.substr(html.find("<body>"), html.find("<script>") - html.find("<body>"));
  std::vector<std::string> open;
  const std::regex tag("<(/?)([a-z0-9]+)[^>]*?(/?)>");
  for (std::sregex_iterator at(body.begin(), body.end(), tag), end; at != end; ++at) {
    if ((*at)[3].length() > 0) continue;
    if ((*at)[1].length() == 0) {
      open.push_back((*at)[2]);
      continue;
    }
    ASSERT_FALSE(open.empty());
    ASSERT_EQ(open.back(), (*at)[2].str());
    open.pop_back();
  }
  EXPECT_THAT(open, ::testing::ElementsAre("body"));
}

TEST(Page, NeedsNothingButItself) {
  const std::string html = whole_page(4).html();
  EXPECT_THAT(all_of(html, "(?:src|href)=\"([^\"#][^\"]{0,10})"), ::testing::Each(StartsWith("data:")));
  EXPECT_EQ(count(html, "url("), 0U);
  EXPECT_EQ(count(html, "@import"), 0U);
  EXPECT_EQ(count(html, "content=\"default-src 'none';"), 1U);
}

/// A hostile text everywhere that a text may stand.
Page hostile_page(const std::string& text) {
  Page page(text, text, text);
  Table table({{text, Align::left}, {text}});
  table.add_row({text, text});
  HeatMap map = regret();
  map.title = map.row = map.column = map.value = map.rows[0] = map.columns[0] = text;
  XyChart points = front();
  points.title = points.x.title = points.y.title = points.series[1].name = points.references[0].name = text;
  for (ChartPoint& point : points.series[1].points) point.label = text;
  StripChart strips = draws();
  strips.title = strips.category = strips.axis.title = strips.series[0] = strips.rows[0].name = text;
  page.section(text)
      .tiles({{text, text, text}})
      .warnings({text})
      .facts({{text, text}})
      .text(text)
      .table(table, text)
      .figure(map, text)
      .figure(points, text)
      .figure(strips, text)
      .figure(BarChart{text, text, text, {text, text}, {{text, {1, 2}}}}, text)
      .figure(IntervalChart{text, text, {text}, {{text, 1, 0, 2, text}}, ReferenceLine{0, text}}, text)
      .excerpts({{text, {{text, 1, text}, {text, 0}}, text}})
      .file(text, text);
  return page;
}

const std::string kHostile =
    "</title></style></script><script>alert(1)</script><img src=x onerror='alert(1)'>\"&\xFF\x1B[0m";

TEST(Page, NoTextGetsThrough) {
  const std::string html = hostile_page(kHostile).html();
  EXPECT_EQ(count(html, "<script"), 1U);
  EXPECT_EQ(count(html, "</script"), 1U);
  EXPECT_EQ(count(html, "</style"), 1U);
  EXPECT_EQ(count(html, "<img"), 0U);
  EXPECT_TRUE(is_valid_utf8(html));
  EXPECT_EQ(html.find('\x1B'), std::string::npos);
  // Attributes are quoted, and no text ends one.
  const std::string bare = std::regex_replace(html, std::regex("\"[^\"]*\""), "");
  EXPECT_THAT(all_of(bare, "<[a-z]+[^>]*\\s(on[a-z]+)="), IsEmpty());
  const std::string markdown = hostile_page(kHostile).markdown();
  EXPECT_TRUE(is_valid_utf8(markdown));
  for (std::size_t at = markdown.find("<script"); at != std::string::npos; at = markdown.find("<script", at + 1))
    EXPECT_TRUE(at > 0 && (markdown[at - 1] == '\\' || markdown.rfind("```", at) != std::string::npos)) << at;
}

TEST(Page, OfALargeModelIsSmall) {
  Page page = whole_page(80);
  const HeatMap map = losses(80);
  for (int more = 0; more < 4; ++more) page.section("More").figure(map, "").figure(depth(map), "");
  EXPECT_LT(page.html().size(), 2'000'000U);
}

TEST(Page, ALongTableIsCutAndItsFileIsWhole) {
  Table table({{"n"}});
  for (int i = 0; i < 1000; ++i) table.add_row({std::to_string(i)});
  Page page("long", "");
  page.section("s").table(table, "numbers");
  const std::string html = page.html();
  EXPECT_EQ(count(html, "<td"), 400U);
  EXPECT_THAT(html, HasSubstr("600 more rows."));
  EXPECT_THAT(html, HasSubstr("%0D%0A999%0D%0A"));
  EXPECT_THAT(page.markdown(), HasSubstr("\n900 more rows.\n"));
}

TEST(Page, AsMarkdownPicturesAreTables) {
  const std::string text = whole_page(4).markdown();
  EXPECT_THAT(text, StartsWith("# A page of everything\n\nwhat a report may hold\n\n## Summary\n\n"));
  EXPECT_THAT(text, HasSubstr("> **Warning:** layers.3.mlp.down_proj: rounded"));
  EXPECT_THAT(text, HasSubstr("- **model**: demo-llama\n"));
  EXPECT_THAT(
      text,
      HasSubstr("### Files\n\nBytes.\n\n| file | before | after |\n| --- | ---: | ---: |\n| model.gguf | 15 | 4.2 |"));
  EXPECT_THAT(text, HasSubstr("```\nThe fox jumps over\n```\n"));
  EXPECT_EQ(count(text, "<svg"), 0U);
  EXPECT_EQ(text, whole_page(4).markdown());
}

using Browser = testing::Browser;

TEST_F(Browser, FindsNothingWrongWithAPage) {
  const nlohmann::json result = check(whole_page(80).html());
  EXPECT_THAT(result.at("findings").get<std::vector<std::string>>(), IsEmpty());
  EXPECT_EQ(result.at("figures"), kFigures);
  EXPECT_EQ(result.at("tables"), kFigures + 1);
  EXPECT_EQ(result.at("tooltips"), kFigures);
}

TEST_F(Browser, RunsNoTextAsAScript) {
  const nlohmann::json result = check(hostile_page(kHostile).html());
  for (const std::string& finding : result.at("findings").get<std::vector<std::string>>()) {
    EXPECT_THAT(finding, Not(HasSubstr("console:")));
    EXPECT_THAT(finding, Not(HasSubstr("asked for")));
    EXPECT_THAT(finding, Not(HasSubstr("the page is")));
    EXPECT_THAT(finding, Not(HasSubstr("error:")));
  }
  EXPECT_EQ(result.at("figures"), 5);
}

/// The check can fail: each of these pages has one thing wrong with it.
TEST_F(Browser, SeesWhatIsWrong) {
  const auto broken = [&](const std::string& was, const std::string& is) {
    Page page("p", "q");
    page.section("s").text("words").figure(front(), "c");
    std::string html = page.html();
    html.replace(html.find(was), was.size(), is);
    return check(html, "1280 light").at("findings").get<std::vector<std::string>>();
  };
  using ::testing::Contains;
  EXPECT_THAT(broken("<p>words</p>", "<p style=\"min-width:2000px\">words</p>"), Contains(HasSubstr("the page is")));
  EXPECT_THAT(broken("<p>words</p>", "<p style=\"color:#999;background:#888\">words</p>"),
              Contains(HasSubstr("contrast")));
  EXPECT_THAT(broken("<p>words</p>", "<img src=\"https://example.org/x.png\">"), Contains(HasSubstr("console:")));
  EXPECT_THAT(broken("<script>", "<script>1;"), Contains(HasSubstr("console:")));  // another hash
  EXPECT_THAT(broken("</svg>", "<text x=\"0\" y=\"20\">one</text><text x=\"2\" y=\"20\">two</text></svg>"),
              Contains(HasSubstr("overlap")));
  EXPECT_THAT(broken("</svg>", "<text x=\"900\" y=\"20\">out</text></svg>"), Contains(HasSubstr("leaves the picture")));
}

}  // namespace
}  // namespace adze
