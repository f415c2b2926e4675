#include "compare/study.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include <nlohmann/json.hpp>

#include "base/parallel.h"
#include "calibrate/calibrate.h"
#include "compare/study_report.h"
#include "pipeline/pipeline_testing.h"

namespace adze::testing {
namespace {

std::string text_file(const std::string& name) { return ADZE_SOURCE_DIR "/calibration_data/calib/" + name + ".txt"; }
std::string heldout(const std::string& name) { return ADZE_SOURCE_DIR "/calibration_data/heldout/" + name + ".txt"; }

constexpr const char* kGptq =
    "schemes: { w: { grid: int3, group: 32, symmetric: true, solver: gptq } }\n"
    "rules: [ { modules: \"layers.**\", scheme: w } ]\n";
constexpr const char* kNearest =
    "schemes: { w: { grid: int3, group: 32, symmetric: true, solver: rtn, scale_rule: minmax } }\n"
    "rules: [ { modules: \"layers.**\", scheme: w } ]\n";

class StudyTest : public ::testing::Test {
 protected:
  StudyTest() : site(true), model(open_model(site.model())) {}

  StudyRequest request(int stages, const char* schemes = kGptq) {
    recipe = parse_recipe(recipe_of(schemes), "recipe.yaml");
    StudyRequest r;
    r.sets = {{"narrative", text_file("narrative")}, {"code", text_file("code")}};
    if (stages > 1) r.recipe = &*recipe;
    if (stages > 2) r.texts = {{"narrative", heldout("narrative")}, {"code", heldout("code")}};
    r.rule = {8, 32, 3, 1};
    r.sizes = {4};
    r.text_windows = 6;
    r.protocol = "lcpp-32";
    r.stages = stages;
    r.out = site.path() / "study";
    return r;
  }
  Study run(const StudyRequest& r) {
    prepared.emplace(prepare_study(r, model));
    return run_study(*prepared, silent_progress());
  }

  Site site;
  OpenedModel model;
  std::optional<Recipe> recipe;
  std::optional<PreparedStudy> prepared;
};

TEST_F(StudyTest, FindsWhichSetServesWhichJudge) {
  const Study study = run(request(2));
  // A draw serves other draws of its own set better than the other set does, as predicted and as measured.
  for (const Mismatch* m : {&study.moments.expected_regret, &study.regret->regret})
    for (std::size_t j = 0; j < 2; ++j) {
      EXPECT_EQ(m->best_for(j), j);
      EXPECT_GT(m->cell(j, j).mean, 0) << "a finite draw costs something";
    }
  EXPECT_NEAR(study.mixture->weights[0] + study.mixture->weights[1], 1, 1e-12);
  EXPECT_LE(study.mixture->worst, study.mixture->uniform_worst);
  const std::vector<std::string> said = findings(*prepared, study);
  EXPECT_FALSE(said.empty());
}

TEST_F(StudyTest, OneTextUnderTwoNamesIsNoDifference) {
  StudyRequest r = request(2);
  r.sets = {{"a", text_file("code")}, {"b", text_file("code")}};
  const Study study = run(r);
  for (const InputComparison& input : study.moments.inputs) {
    EXPECT_NEAR(input.distances(0, 1).frobenius, 0, 1e-14);
    EXPECT_NEAR(input.distances(0, 1).hilbert, 0, 1e-7);
    EXPECT_GT(input.distances(0, 0).frobenius, 0) << "two draws of one set differ";
  }
  for (const MatrixD& draw : study.regret->regret.draws) EXPECT_EQ(draw(0, 0), draw(1, 0));
  EXPECT_THAT(study.warnings, ::testing::Contains(::testing::HasSubstr("sets 'a' and 'b' share text")));
}

TEST_F(StudyTest, RoundingToNearestHasNoSpreadAndNoRegret) {
  const Study study = run(request(3, kNearest));
  for (const MatrixRegret& matrix : study.regret->matrices)
    for (const MatrixD& draw : matrix.log_regret)
      for (const double value : draw.values()) EXPECT_EQ(value, 0);
  const Mismatch kl = study.outcomes->kl();
  for (std::size_t t = 0; t < 2; ++t)
    for (std::size_t s = 0; s < 3; ++s) {
      EXPECT_EQ(kl.cell(s, t).sd, 0);
      EXPECT_EQ(kl.cell(s, t).mean, kl.cell(0, t).mean);
      EXPECT_GT(kl.cell(s, t).mean, 0);
    }
  EXPECT_THAT(findings(*prepared, study), ::testing::Contains(::testing::HasSubstr("Calibration changes nothing")));
}

TEST_F(StudyTest, JudgesWholeModelsOnceAndTheSameOnAnyNumberOfThreads) {
  const StudyRequest r = request(3);
  set_thread_count(1);
  const Study first = run(r);
  write_study(*prepared, first);
  const std::string json = read_file(r.out / "compare.json");
  ASSERT_EQ(first.outcomes->sources.size(), 3U);
  EXPECT_EQ(first.outcomes->sources[2].name, "mixture");
  ASSERT_EQ(first.outcomes->sizes.size(), 2U);
  EXPECT_EQ(first.outcomes->sizes[0].windows, 4U);
  EXPECT_EQ(first.outcomes->sizes[1].windows, 8U);
  const Mismatch kl = first.outcomes->kl();
  EXPECT_GT(kl.cell(0, 0).sd, 0);
  EXPECT_FALSE(fs::exists(r.out / "work"));

  // Everything is there: nothing is compressed again, and the answer is the same.
  const auto written = fs::last_write_time(*fs::directory_iterator(r.out / "outcomes"));
  set_thread_count(4);
  write_study(*prepared, run(r));
  EXPECT_EQ(read_file(r.out / "compare.json"), json);
  EXPECT_EQ(fs::last_write_time(*fs::directory_iterator(r.out / "outcomes")), written);

  // From nothing, on four threads, and with one outcome lost.
  fs::remove_all(r.out);
  write_study(*prepared, run(r));
  EXPECT_EQ(read_file(r.out / "compare.json"), json);
  fs::remove(*fs::directory_iterator(r.out / "outcomes"));
  write_study(*prepared, run(r));
  EXPECT_EQ(read_file(r.out / "compare.json"), json);
  set_thread_count(0);
}

TEST_F(StudyTest, AnOutcomeIsThatOfARunOfTheRecipe) {
  const Study study = run(request(3));
  PreparedRun run = prepare_run(*recipe, model, prepared->sets[1].draws[2]);
  compress(run, {site.path() / "out", IfExists::resume, false}, silent_progress());
  const OpenedModel compressed = open_model(site.path() / "out");
  const auto& prefix = model.require_tokenizer().vocabulary().prefix_ids;
  const EvaluationResult result = evaluate(*compressed.weights, model.weights.get(), prepared->texts[0].ids,
                                           prefix.empty() ? std::nullopt : std::optional(prefix.front()),
                                           parse_protocol("lcpp-32"), silent_progress());
  EXPECT_EQ(study.outcomes->sources[1].draws[2][0].kl, result.reference->kl_mean);
}

TEST_F(StudyTest, TakesSavedStatistics) {
  StudyRequest r = request(2);
  const Tokenizer& tokenizer = model.require_tokenizer();
  for (const char* name : {"narrative", "code"}) {
    CalibrateOptions how;
    how.out = site.path() / name;
    calibrate(*model.weights, model.name, load_windows(text_file(name), tokenizer, {8, 32, 1}), how, silent_progress());
  }
  r.sets = {{"narrative", site.path() / "narrative"}, {"code", site.path() / "code"}};
  const Study study = run(r);
  EXPECT_EQ(study.moments.expected_regret.draws.size(), 1U);
  EXPECT_NEAR(study.moments.expected_regret.cell(0, 0).mean, 0, 1e-12);
  EXPECT_GT(study.moments.expected_regret.cell(0, 1).mean, 0);
  EXPECT_THAT(study.warnings, ::testing::Contains(::testing::HasSubstr("saved statistics are one draw")));
  r.stages = 3;
  r.texts = {{"t", heldout("code")}};
  expect_error(ErrorKind::usage, "stage 3 calibrates models, for which it needs text",
               [&] { prepare_study(r, model); });
}

TEST_F(StudyTest, RefusesWhatCannotBeCompared) {
  StudyRequest one = request(1);
  one.sets.pop_back();
  expect_error(ErrorKind::usage, "there is one set and nothing to compare it with", [&] { prepare_study(one, model); });
  StudyRequest twice = request(1);
  twice.sets[1].name = "narrative";
  expect_error(ErrorKind::usage, "two sets are called 'narrative'", [&] { prepare_study(twice, model); });
  StudyRequest no_recipe = request(2);
  no_recipe.recipe = nullptr;
  expect_error(ErrorKind::usage, "say how with --recipe FILE", [&] { prepare_study(no_recipe, model); });
  StudyRequest no_text = request(3);
  no_text.texts.clear();
  expect_error(ErrorKind::usage, "stage 3 judges models on texts", [&] { prepare_study(no_text, model); });
  StudyRequest large = request(1);
  large.rule.windows = 1000000;
  expect_error(ErrorKind::bad_data, "but 3000000 are asked for", [&] { prepare_study(large, model); });
  StudyRequest same = request(3);
  same.texts[0].path = text_file("narrative");
  same.text_windows = 1000;
  expect_error(ErrorKind::bad_data, "stands in the calibration set 'narrative'", [&] { prepare_study(same, model); });
  StudyRequest size = request(3);
  size.sizes = {8};
  expect_error(ErrorKind::usage, "the sweep's 8 windows are not between 1 and --windows 8",
               [&] { prepare_study(size, model); });
  StudyRequest empty = request(3);
  write_file(site.path() / "empty.txt", "");
  empty.texts[0].path = site.path() / "empty.txt";
  expect_error(ErrorKind::bad_data, "the text is empty", [&] { prepare_study(empty, model); });
  StudyRequest brief = request(3);
  write_file(site.path() / "brief.txt", "A few words.");
  brief.texts[0].path = site.path() / "brief.txt";
  expect_error(ErrorKind::bad_data, "one window of 32 is needed", [&] { prepare_study(brief, model); });
  StudyRequest ids = request(1);
  write_file(site.path() / "ids.json", "[1, 2, 99999]");
  ids.sets[0].path = site.path() / "ids.json";
  expect_error(ErrorKind::bad_data, "99999", [&] { prepare_study(ids, model); });
}

TEST(EnoughWindows, AreTheFewestThatAreAsGood) {
  const auto point = [](std::size_t windows, double mean, double sd) {
    SizePoint p{windows, {}, {}};
    p.mean = {mean, sd, 2 * sd, mean - sd, mean + sd};
    return p;
  };
  const std::vector<SizePoint> flat{point(8, 0.050, 0.004), point(16, 0.0402, 0.0002), point(32, 0.0400, 0.0001)};
  EXPECT_EQ(enough_windows(flat, 0.002).windows, 16U);
  EXPECT_FALSE(enough_windows(flat, 0.002).still_falling);
  const std::vector<SizePoint> falling{point(8, 0.08, 0.004), point(16, 0.06, 0.001), point(32, 0.04, 0.0004)};
  EXPECT_TRUE(enough_windows(falling, 0.002).still_falling);
  const std::vector<SizePoint> rising{point(8, 0.03, 0.0001), point(16, 0.05, 0.0001)};
  EXPECT_TRUE(enough_windows(rising, 0.002).worse_with_more);
}

}  // namespace
}  // namespace adze::testing
