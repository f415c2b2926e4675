// adze compare and adze generate as a user runs them.
#include <nlohmann/json.hpp>

#include "tools/tools_testing.h"

namespace adze::testing {
namespace {

std::string calib_text(const std::string& name) { return bundled_text("calib/" + name + ".txt"); }

std::vector<std::string> comparing(const std::string& out, std::vector<std::string> more = {}) {
  std::vector<std::string> arguments{demo_model().string(),
                                     "--set",
                                     calib_text("code"),
                                     "--set",
                                     "story=" + calib_text("narrative"),
                                     "--windows",
                                     "8",
                                     "--tokens",
                                     "64",
                                     "--draws",
                                     "2",
                                     "--blocks",
                                     "2",
                                     "-o",
                                     out};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

ProgramResult compare(std::vector<std::string> arguments, const ProgramOptions& options = {}) {
  return run_program("adze-compare", std::move(arguments), options);
}

TEST(CompareTool, SaysWhichSetServesWhichAndLeavesAReport) {
  const Workplace place;
  const ProgramResult result = compare(comparing(place.out()));
  expect_exit(result, 0);
  for (const char* const words :
       {"demo-llama: 2 sets, 2 draws of 8 windows of 64 tokens", "stage 1: expected regret of GPTQ",
        "mixture proposed: ", "serves all judges best on average", "made "})
    EXPECT_THAT(result.out, ::testing::HasSubstr(words));
  for (const char* const name : {"report.html", "report.md", "compare.json", "moments.csv", "regret.csv"})
    EXPECT_TRUE(fs::exists(fs::path(place.out()) / name)) << name;
  EXPECT_THAT(read_file(fs::path(place.out()) / "report.html"), ::testing::HasSubstr("Expected regret of GPTQ"));
  const auto json = nlohmann::json::parse(read_file(fs::path(place.out()) / "compare.json"));
  EXPECT_EQ(json["expected_log_regret"]["sources"], (std::vector<std::string>{"code", "story"}));
  EXPECT_EQ(json["inputs"].size(), 2U * 4 + 1);
  const fs::path statistics = fs::path(place.out()) / "statistics/story/draw-1";
  for (std::size_t block = 0; block < 6; ++block)
    EXPECT_EQ(fs::exists(statistics / fmt::format("block-{:04}.h5", block)), block == 0 || block == 5) << block;
}

TEST(CompareTool, GoesOnWhereItWasStoppedAndGivesTheSameBytes) {
  const Workplace place;
  const std::string whole = (place.path() / "whole").string();
  expect_exit(compare(comparing(whole)), 0);
  ProgramOptions options;
  options.interruption = {SIGKILL, when_exists(fs::path(place.out()) / "statistics/story/draw-0/block-0000.h5")};
  EXPECT_TRUE(compare(comparing(place.out()), options).interrupted);
  expect_exit(compare(comparing(place.out())), 0);
  for (const char* const name : {"compare.json", "moments.csv", "regret.csv"})
    EXPECT_EQ(read_file(fs::path(place.out()) / name), read_file(fs::path(whole) / name)) << name;
}

TEST(CompareTool, PredictsWithoutWriting) {
  const Workplace place;
  const ProgramResult result = compare(comparing(place.out(), {"--dry-run"}));
  expect_exit(result, 0);
  EXPECT_THAT(result.out, ::testing::HasSubstr("stage 1: 4 passes over the model"));
  EXPECT_FALSE(fs::exists(place.out()));
}

TEST(CompareTool, RefusesWithAHint) {
  const Workplace place;
  const auto refuses = [&](int code, const char* words, std::vector<std::string> arguments) {
    const ProgramResult result = compare(std::move(arguments));
    expect_exit(result, code);
    EXPECT_THAT(result.err, ::testing::HasSubstr(words));
  };
  refuses(64, "nothing to compare it with", {demo_model().string(), "--set", calib_text("code"), "-o", place.out()});
  refuses(64, "two sets are called 'code'", comparing(place.out(), {"--set", "code=" + calib_text("dialogue")}));
  refuses(64, "say how with --recipe FILE", comparing(place.out(), {"--stages", "2"}));
  refuses(66, "nowhere.txt", comparing(place.out(), {"--set", "x=nowhere.txt"}));
  refuses(65, "are asked for",
          {demo_model().string(), "--set", calib_text("code"), "--set", calib_text("narrative"), "-o", place.out()});
  fs::create_directories(place.out());
  write_file(fs::path(place.out()) / "letter.txt", "mine");
  refuses(73, "holds other things than a study", comparing(place.out()));
}

TEST(GenerateTool, WritesASetThatIsReadAsItWasWritten) {
  const Workplace place;
  const std::string file = (place.path() / "own.json").string();
  const std::vector<std::string> arguments{demo_model().string(), "--windows", "4", "--tokens", "32", "-o", file};
  const ProgramResult result = run_program("adze-generate", arguments);
  expect_exit(result, 0);
  EXPECT_THAT(result.out,
              ::testing::ContainsRegex("4 windows of 32 tokens, perplexity [0-9.]+; 1 windows of perplexity"));
  expect_exit(run_program("adze-calibrate", {demo_model().string(), "--set", file, "--windows", "4", "--tokens", "32",
                                             "-o", place.out(), "-q"}),
              0);
  const ProgramResult again = run_program("adze-generate", arguments);
  expect_exit(again, 73);
  EXPECT_THAT(again.err, ::testing::HasSubstr("replace it with --overwrite"));
  std::vector<std::string> text = arguments;
  text.back() = (place.path() / "own.txt").string();
  expect_exit(run_program("adze-generate", text), 64);
}

}  // namespace
}  // namespace adze::testing
