// Studies of adze compare on the page of a run.
#include "pipeline/calibration_study.h"

#include <cmath>

#include <nlohmann/json.hpp>

#include "pipeline/pipeline_testing.h"
#include "pipeline/run_page.h"
#include "report/report_testing.h"

namespace adze::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::ordered_json;

/// What adze compare writes, as much of it as is read: two sets of two draws, two texts.
Json study_json(const std::string& identity, const std::string& draw = "d3") {
  Json json;
  json["design"] = {
      {"model", {{"name", "m"}, {"identity", identity}}},
      {"recipe", nullptr},
      {"windows", 8},
      {"tokens", 64},
      {"draws", 2},
      {"sets", {{{"name", "code"}, {"draws", {"d0", "d1"}}}, {{"name", "wi<ki"}, {"draws", {"d2", draw}}}}}};
  json["findings"] = Json::array({"'code' serves all judges best on average."});
  json["expected_log_regret"] = {{"sources", {"code", "wi<ki"}},
                                 {"judges", {"code", "wi<ki", "text t"}},
                                 {"draws", {{{0.1, 0.5, 0.2}, {0.7, 0.0, 0.4}}, {{0.1, 0.7, 0.2}, {0.7, 0.0, 0.6}}}}};
  return json;
}

/// The same with stages 2 and 3.
Json whole_study_json(const std::string& identity, const std::string& recipe) {
  Json json = study_json(identity);
  json["design"]["recipe"] = recipe;
  json["log_regret"] = json["expected_log_regret"];
  for (const char* const source : {"code", "wi<ki", "mixture"})
    for (std::size_t draw = 0; draw < 2; ++draw)
      for (const char* const text : {"code", "wi<ki"})
        json["outcomes"].push_back(
            {{"source", source}, {"windows", 8}, {"draw", draw}, {"text", text}, {"kl", draw == 0 ? 0.25 : 0.75}});
  return json;
}

CalibrationStudy parsed(const Json& json) { return parse_study(json.dump(), "compare.json"); }

TEST(CalibrationStudy, HasTheMeansOverDraws) {
  const CalibrationStudy study = parsed(study_json("id"));
  EXPECT_EQ(study.identity, "id");
  EXPECT_EQ(study.recipe, "");
  EXPECT_EQ(study.all_draws.size(), 4U);
  ASSERT_EQ(study.matrices.size(), 1U);
  const StudyMatrix& regret = study.matrices[0];
  EXPECT_EQ(regret.judges, (std::vector<std::string>{"code", "wi<ki", "text t"}));
  ASSERT_EQ(regret.values.size(), 6U);
  EXPECT_DOUBLE_EQ(regret.values[1], 100 * std::expm1((0.5 + 0.7) / 2));
  EXPECT_DOUBLE_EQ(regret.values[4], 0);
  EXPECT_DOUBLE_EQ(regret.values[5], 100 * std::expm1((0.4 + 0.6) / 2));
}

TEST(CalibrationStudy, PutsWholeModelsFirst) {
  const CalibrationStudy study = parsed(whole_study_json("id", "r"));
  ASSERT_EQ(study.matrices.size(), 3U);
  EXPECT_EQ(study.matrices[0].sources, (std::vector<std::string>{"code", "wi<ki", "mixture"}));
  EXPECT_EQ(study.matrices[0].judges, (std::vector<std::string>{"code", "wi<ki"}));
  EXPECT_EQ(study.matrices[0].values, std::vector<double>(6, 0.5));
  EXPECT_EQ(study.matrices[1].title, "Measured regret of layers");
  EXPECT_EQ(study.matrices[2].title, "Expected regret of GPTQ");
}

TEST(CalibrationStudy, RefusesWhatIsNone) {
  const auto refuses = [](const std::string& text, const char* words) {
    expect_error(ErrorKind::bad_data, words, [&] { parse_study(text, "x.json"); });
  };
  refuses("{", "x.json");
  refuses("[]", "x.json: is no study of adze compare");
  refuses("{\"design\": {}}", "x.json: is no study of adze compare");
  const auto refuses_changed = [&](const char* pointer, const Json& value, const char* words) {
    Json json = whole_study_json("id", "r");
    json[Json::json_pointer(pointer)] = value;
    refuses(json.dump(), words);
  };
  refuses_changed("/expected_log_regret/draws", Json::array(), "x.json: 'Expected regret of GPTQ' is of no draw");
  refuses_changed("/expected_log_regret/draws/1", Json::array(), "lacks rows");
  refuses_changed("/expected_log_regret/draws/1/0", {1, 2}, "lacks columns");
  refuses_changed("/expected_log_regret/draws/1/0/0", 1e300, "a value that is not finite");
  refuses_changed("/expected_log_regret/draws/1/0/0", "much", "is no study of adze compare");
  refuses_changed("/log_regret/sources", Json::array(), "0 names");
  refuses_changed("/outcomes/0/text", "other", "not every model was judged on every text");
  refuses_changed("/design/windows", "many", "is no study of adze compare");
}

TEST(CalibrationStudy, OfAnotherModelIsRefused) {
  const Site site(true);
  const OpenedModel model = open_model(site.model());
  fs::create_directory(site / "study");
  write_file(site / "study/compare.json", study_json("another").dump());
  for (const char* const path : {"study", "study/compare.json"})
    expect_error(ErrorKind::usage, "is a study of another model", [&] { load_study(site / path, model); });
  expect_error(ErrorKind::missing_input, "nowhere", [&] { load_study(site / "nowhere", model); });
  write_file(site / "study/compare.json", study_json(model_identity(model)).dump());
  EXPECT_EQ(load_study(site / "study", model).matrices.size(), 1U);
}

/// Matrices are pictures with their numbers behind them; nothing else that the run makes knows of the study.
TEST(CalibrationStudy, IsOnThePageOfTheRunAndNowhereElse) {
  const Site site(true);
  const Prepared prepared(recipe_of("rules: [ { modules: \"**\", store: bf16 } ]\n"), site.model());
  const std::string identity = model_identity(prepared.model);
  const CalibrationStudy study = parsed(whole_study_json(identity, prepared.recipe.text_hash));
  CompressOptions options;
  options.out = site / "without";
  const CompressResult result = compress(prepared.run, options, silent_progress());
  options.out = site / "with";
  options.study = &study;
  compress(prepared.run, options, silent_progress());
  EXPECT_EQ(read_file(site / "with/manifest.json"), read_file(site / "without/manifest.json"));

  const std::string html = read_file(site / "with/report.html"), plain = read_file(site / "without/report.html");
  const std::string markdown = read_file(site / "with/report.md");
  EXPECT_THAT(plain, Not(HasSubstr("Calibration sets compared")));
  EXPECT_EQ(count(html, "<h2>Calibration sets compared</h2>"), 1U);
  EXPECT_EQ(count(markdown, "\n## Calibration sets compared\n"), 1U);
  for (const char* const title : {"Mean KL of whole models", "Measured regret of layers", "Expected regret of GPTQ"})
    EXPECT_EQ(count(html, fmt::format("<h3>{}</h3>", title)), 1U) << title;
  EXPECT_EQ(count(html, "<figure "), count(plain, "<figure ") + 3);
  EXPECT_EQ(count(html, "Download as CSV"), count(plain, "Download as CSV") + 3);
  EXPECT_THAT(html, HasSubstr("compressed with this run&#39;s recipe"));
  EXPECT_THAT(html, HasSubstr("wi&lt;ki"));
  EXPECT_THAT(html, Not(HasSubstr("wi<ki")));
  EXPECT_THAT(markdown, HasSubstr("This run's windows are none of the study's draws"));
  EXPECT_LT(html.find("<h2>Losses of matrices</h2>"), html.find("<h2>Calibration sets compared</h2>"));
  EXPECT_LT(html.find("<h2>Calibration sets compared</h2>"), html.find("<h2>Fallbacks</h2>"));

  const CalibrationStudy own = parsed(study_json(identity, prepared.run.windows.hash()));
  const std::string page = run_page(prepared.run, result, inputs_of(prepared.run), &own).markdown();
  EXPECT_THAT(page, HasSubstr("This run was calibrated with draw 1 of 'wi"));
  EXPECT_THAT(page, HasSubstr("Nothing was compressed for it."));
}

}  // namespace
}  // namespace adze::testing
