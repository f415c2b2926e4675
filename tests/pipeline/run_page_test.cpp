// The page of a run: what is on it is what the run did.
#include "pipeline/run_page.h"

#include <cmath>

#include <nlohmann/json.hpp>

#include "pipeline/pipeline_testing.h"
#include "pipeline/run_figures.h"
#include "report/report_testing.h"

namespace adze::testing {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

const std::string kBody =
    "schemes: { w4: { grid: int4, group: 32, symmetric: true }, spare: { grid: int4 } }\n"
    "rules: [ { modules: \"layers.*.self_attn.*\", scheme: w4 }, { modules: \"layers.0.**\", scheme: w4 } ]\n"
    "export: [ { format: gguf, file: sub/m.gguf } ]\n";

class Reports : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string text = recipe_of(kBody + "evaluate: { text: " + calibration_text() + ", context: 32 }\n");
    prepared_.emplace(text, site_.model());
    CompressOptions options;
    options.out = site_ / "out";
    result_ = compress(prepared_->run, options, silent_progress());
  }

  std::string report(const std::string& name) const { return read_file(site_ / "out" / name); }
  const PreparedRun& run() const { return prepared_->run; }

  Site site_{true};
  std::optional<Prepared> prepared_;
  CompressResult result_;
};

TEST_F(Reports, LieBesideTheResult) {
  const std::string html = report("report.html"), markdown = report("report.md");
  for (const char* const title : {"Summary", "What was done, and with what", "Sizes", "Quality against the original",
                                  "Losses of matrices", "Fallbacks", "Time and memory"}) {
    EXPECT_EQ(count(html, fmt::format("<h2>{}</h2>", title)), 1U) << title;
    EXPECT_EQ(count(markdown, fmt::format("\n## {}\n", title)), 1U) << title;
  }
  for (const char* const title : {"Loss by layer and module", "Bits by layer and module", "Loss along depth",
                                  "Tensors and files", "KL of windows", "Time", "Time of solving", "Memory"})
    EXPECT_EQ(count(html, fmt::format("<h3>{}</h3>", title)), 1U) << title;
  EXPECT_EQ(count(html, "<figure "), 8U);
  EXPECT_LT(html.size(), 2'000'000U);
  EXPECT_THAT(markdown, HasSubstr("| w4 | int4 g32 sym | gptq |"));
}

TEST_F(Reports, TheJsonSaysWhatTheRunTook) {
  const Json json = Json::parse(report("report.json"));
  EXPECT_GT(json.at("peak_memory").get<std::uint64_t>(), 1U << 20);
  double sum = 0;
  for (const Json& phase : json.at("phases")) sum += phase.at("seconds").get<double>();
  EXPECT_EQ(json.at("phases").size(), 5U);
  EXPECT_LE(sum, json.at("seconds").get<double>());
  EXPECT_GE(sum, 0.9 * json.at("seconds").get<double>());
  EXPECT_THAT(json.at("warnings").dump(), HasSubstr("no rule uses scheme 'spare'"));
  EXPECT_THAT(report("report.html"), HasSubstr("no rule uses scheme &#39;spare&#39;"));
}

/// Every cell is the loss of its own matrix, and there is none for what was not solved.
TEST_F(Reports, CellsAreThoseOfTheirMatrices) {
  const HeatMap losses = loss_map(run().plan, result_), bits = bits_map(run().plan);
  const std::vector<LinearInfo> linears = block_linears(run().plan.architecture);
  ASSERT_EQ(linears.size(), 7U);
  ASSERT_EQ(losses.rows.size(), linears.size());
  ASSERT_EQ(losses.columns.size(), 2U);
  std::size_t cells = 0;
  for (std::size_t r = 0; r < losses.rows.size(); ++r)
    for (std::size_t c = 0; c < losses.columns.size(); ++c) {
      const std::string module = module_name(c, linears[r]);
      EXPECT_EQ(losses.rows[r], kind_of(module));
      const auto record = std::ranges::find(result_.tensors, module, &TensorRecord::module);
      EXPECT_EQ(std::isnan(losses.at(r, c)), record == result_.tensors.end()) << module;
      if (record != result_.tensors.end()) {
        EXPECT_EQ(losses.at(r, c), record->report.relative_loss) << module;
        ++cells;
      }
      EXPECT_DOUBLE_EQ(bits.at(r, c), record == result_.tensors.end() ? 16 : 4.5) << module;
    }
  EXPECT_EQ(cells, result_.tensors.size());
  EXPECT_EQ(cells, 4U + 4U + 3U);
  std::size_t points = 0;
  for (const ChartSeries& series : loss_along_depth(run().plan, result_).series) points += series.points.size();
  EXPECT_EQ(points, cells);
}

TEST_F(Reports, SizesAreThoseOfTheFiles) {
  const BarChart sizes = size_bars(run(), result_);
  ASSERT_EQ(sizes.rows.size(), 3U);
  constexpr double kMiB = 1 << 20;
  EXPECT_DOUBLE_EQ(sizes.rows[0].values[0], static_cast<double>(run().plan.original_bytes) / kMiB);
  EXPECT_DOUBLE_EQ(sizes.rows[1].values[0], static_cast<double>(run().plan.stored_bytes) / kMiB);
  EXPECT_EQ(sizes.rows[2].name, "sub/m.gguf");
  EXPECT_DOUBLE_EQ(sizes.rows[2].values[0], static_cast<double>(fs::file_size(site_ / "out/sub/m.gguf")) / kMiB);
}

TEST_F(Reports, FallbacksAndDeadInputsAreListed) {
  CompressResult odd = result_;
  odd.tensors[0].report.fallback = "rounded to nearest: <H> is 0";
  odd.tensors[1].report.dead_inputs = 7;
  const std::string html = run_page(run(), odd, inputs_of(run())).html();
  EXPECT_THAT(html, HasSubstr("rounded to nearest: &lt;H&gt; is 0"));
  EXPECT_THAT(html, HasSubstr("1 of 11 matrices were not solved as asked"));
  EXPECT_EQ(count(html, "<td class=\"n\">7</td></tr>"), 1U);
}

TEST(RunPage, OfARunThatSolvesNothing) {
  const Site site(true);
  Prepared prepared(recipe_of("rules: [ { modules: \"**\", store: bf16 } ]\n"), site.model());
  CompressOptions options;
  options.out = site / "out";
  compress(prepared.run, options, silent_progress());
  const std::string html = read_file(site / "out/report.html");
  EXPECT_THAT(html, HasSubstr("No matrix was solved"));
  EXPECT_THAT(html, HasSubstr("Not judged"));
}

}  // namespace
}  // namespace adze::testing
