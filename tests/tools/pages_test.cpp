// The pages that the programs leave, in a real browser.
#include "report/browser.h"
#include "tools/tools_testing.h"

namespace adze::testing {
namespace {

class Pages : public Browser {
 protected:
  /// How many pictures the page has, after nothing was found wrong with it.
  int figures_of(const fs::path& page) const {
    const std::string html = read_file(page);
    EXPECT_LT(html.size(), 2'000'000U);
    const nlohmann::json result = check(html);
    EXPECT_THAT(result.at("findings").get<std::vector<std::string>>(), ::testing::IsEmpty());
    return result.at("figures").get<int>();
  }

  Workplace place;
};

TEST_F(Pages, OfCompressAndOfEvalHaveNothingWrong) {
  expect_exit(compress(place.recipe(small_recipe()), demo_model(), place.out(), {"-q"}), 0);
  EXPECT_GE(figures_of(fs::path(place.out()) / "report.html"), 5);
  const fs::path page = place.path() / "eval.html", card = place.path() / "eval.md";
  const std::string code = "code=" + bundled_text("heldout/code.txt"),
                    story = "story=" + bundled_text("heldout/narrative.txt");
  expect_exit(run_program("adze-eval", {place.out(), place.out(), "--reference", demo_model().string(), "--text", code,
                                        "--text", story, "--protocol", "lcpp-128", "--html", page.string(),
                                        "--markdown", card.string(), "-q"}),
              0);
  EXPECT_EQ(figures_of(page), 5);
  EXPECT_THAT(read_file(page), ::testing::HasSubstr("What was forgotten"));
  EXPECT_THAT(read_file(card), ::testing::HasSubstr("# Models judged"));
}

TEST_F(Pages, OfCompareHasNothingWrong) {
  expect_exit(run_program("adze-compare", {demo_model().string(),
                                           "--set",
                                           bundled_text("calib/code.txt"),
                                           "--set",
                                           bundled_text("calib/narrative.txt"),
                                           "--text",
                                           bundled_text("heldout/code.txt"),
                                           "--text",
                                           bundled_text("heldout/narrative.txt"),
                                           "--recipe",
                                           place.recipe(rtn_recipe()),
                                           "--windows",
                                           "8",
                                           "--tokens",
                                           "64",
                                           "--draws",
                                           "2",
                                           "--sizes",
                                           "4",
                                           "--text-windows",
                                           "2",
                                           "-o",
                                           place.out(),
                                           "-q"}),
              0);
  EXPECT_EQ(figures_of(fs::path(place.out()) / "report.html"), 13);
}

TEST_F(Pages, OfCompressWithAStudyHasItsMatricesInBothSchemes) {
  const std::string study = (place.path() / "study").string(), recipe = place.recipe(small_recipe());
  expect_exit(run_program("adze-compare", {demo_model().string(), "--set", bundled_text("calib/code.txt"), "--set",
                                           bundled_text("calib/narrative.txt"), "--windows", "8", "--tokens", "64",
                                           "--blocks", "2", "-o", study, "-q"}),
              0);
  expect_exit(compress(recipe, demo_model(), place.out(), {"-q"}), 0);
  const std::string with = (place.path() / "with").string();
  expect_exit(compress(recipe, demo_model(), with, {"-q", "--study", study}), 0);
  EXPECT_EQ(figures_of(fs::path(with) / "report.html"), figures_of(fs::path(place.out()) / "report.html") + 1);
  EXPECT_THAT(read_file(fs::path(with) / "report.html"), ::testing::HasSubstr("Expected regret of GPTQ"));
}

}  // namespace
}  // namespace adze::testing
