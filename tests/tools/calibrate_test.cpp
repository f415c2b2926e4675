#include <nlohmann/json.hpp>

#include "tools/tools_testing.h"

namespace adze::testing {
namespace {

std::vector<std::string> measuring(const std::string& out, std::vector<std::string> more = {}) {
  std::vector<std::string> arguments{demo_model().string(),
                                     "--set",
                                     bundled_text("mixed.yaml"),
                                     "--windows",
                                     "4",
                                     "--tokens",
                                     "128",
                                     "--seed",
                                     "7",
                                     "-o",
                                     out};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

ProgramResult calibrate(std::vector<std::string> arguments, const ProgramOptions& options = {}) {
  return run_program("adze-calibrate", std::move(arguments), options);
}

TEST(CalibrateTool, PrintsOneLinePerInputAndWritesTheFolder) {
  const Workplace place;
  const ProgramResult result = calibrate(measuring(place.out()));
  expect_exit(result, 0);
  EXPECT_THAT(result.out, ::testing::HasSubstr("demo-llama, 4 windows, 512 tokens"));
  EXPECT_THAT(result.out, ::testing::ContainsRegex("block 5  down +768 +512 "));
  EXPECT_THAT(result.out, ::testing::ContainsRegex("head +head +256 +512 "));
  EXPECT_EQ(std::ranges::count(result.out, '\n'), 2 + 2 + 6 * 4 + 1);
  EXPECT_EQ(files_below(place.out()).size(), 2U * 7);
}

TEST(CalibrateTool, TellsJsonAndIsQuiet) {
  const Workplace place;
  const ProgramResult result = calibrate(measuring(place.out(), {"--json", "-q"}));
  expect_exit(result, 0);
  EXPECT_EQ(result.err, "");
  const auto json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json["model"], "demo-llama");
  EXPECT_EQ(json["tokens"], 512);
  EXPECT_EQ(json["measured_parts"], 7);
  ASSERT_EQ(json["inputs"].size(), 25U);
  EXPECT_EQ(json["inputs"][3]["input"], "down");
  EXPECT_EQ(json["inputs"][3]["inputs"], 768);
  EXPECT_EQ(json["inputs"][3]["dead_inputs"], 0);
  EXPECT_NEAR(json["inputs"][3]["mean_diagonal"].get<double>() * 768, json["inputs"][3]["trace"].get<double>(), 1e-3);
}

TEST(CalibrateTool, GoesOnAfterBeingKilledAndGivesTheSameBytesOnAnyNumberOfThreads) {
  const Workplace place;
  const std::string whole = (place.path() / "whole").string();
  expect_exit(calibrate(measuring(whole, {"--threads", "4"})), 0);
  ProgramOptions options;
  options.interruption = {SIGKILL, when_exists(fs::path(place.out()) / "block-0002.h5")};
  const ProgramResult killed = calibrate(measuring(place.out(), {"--threads", "1"}), options);
  ASSERT_EQ(killed.exit_code, -SIGKILL) << "it was done before it could be killed";
  const ProgramResult result = calibrate(measuring(place.out(), {"--threads", "1", "--json"}));
  expect_exit(result, 0);
  EXPECT_GE(nlohmann::json::parse(result.out)["kept_parts"].get<int>(), 2);
  std::map<std::string, std::string> files = result_files(place.out());
  std::erase_if(files, [](const auto& file) { return file.first.ends_with(".tmp"); });
  expect_same_files(files, result_files(whole));
}

TEST(CalibrateTool, RefusesAFinishedFolderAndReplacesItWhenTold) {
  const Workplace place;
  expect_exit(calibrate(measuring(place.out())), 0);
  expect_exit(calibrate(measuring(place.out())), 73, {"finished statistics", "--overwrite"});
  expect_exit(calibrate(measuring(place.out(), {"--overwrite"})), 0);
}

TEST(CalibrateTool, ADryRunSaysWhatItTakesAndWritesNothing) {
  const Workplace place;
  const ProgramResult result = calibrate(measuring(place.out(), {"--dry-run", "--json"}));
  expect_exit(result, 0);
  const auto json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json["windows"], 4);
  EXPECT_EQ(json["tokens"], 512);
  EXPECT_FALSE(fs::exists(place.out()));
  expect_exit(calibrate(measuring(place.out())), 0);
  std::uint64_t bytes = 0;
  for (const auto& [name, content] : result_files(place.out())) bytes += content.size();
  EXPECT_LE(json["disk_bytes"].get<std::uint64_t>(), bytes);
  EXPECT_GT(json["disk_bytes"].get<std::uint64_t>() + 7 * 20'000, bytes);
  expect_exit(calibrate(measuring(place.out(), {"--dry-run"})), 73, {"finished statistics"});
}

TEST(CalibrateTool, MergesFolders) {
  const Workplace place;
  const std::string a = (place.path() / "a").string();
  const std::string b = (place.path() / "b").string();
  expect_exit(calibrate(measuring(a)), 0);
  expect_exit(calibrate({demo_model().string(), "--set", bundled_text("code.yaml"), "--windows", "3", "--tokens", "100",
                         "-o", b}),
              0);
  const ProgramResult merged = calibrate({"--merge", a, b, "-o", place.out(), "--json"});
  expect_exit(merged, 0);
  EXPECT_EQ(nlohmann::json::parse(merged.out)["tokens"], 812);
  EXPECT_EQ(nlohmann::json::parse(merged.out)["windows"], 7);
  expect_exit(calibrate({"--merge", a, a, "-o", place.out()}), 65, {"they would count twice"});
}

TEST(CalibrateTool, RefusesCommandLinesThatMakeNoSense) {
  const Workplace place;
  const std::string model = demo_model().string();
  expect_exit(calibrate({"-o", place.out()}), 64, {"give either a MODEL to measure, or --merge"});
  expect_exit(calibrate({model, "--merge", "x", "y", "-o", place.out()}), 64, {"give either a MODEL"});
  expect_exit(calibrate({model, "-o", place.out()}), 64, {"--set TEXT is missing"});
  expect_exit(calibrate({"--merge", "x", "y", "--dry-run", "-o", place.out()}), 64, {"neither --set nor --dry-run"});
  expect_exit(calibrate({"--merge", "x", "-o", place.out()}), 64, {"two or more folders of statistics, 1 given"});
  expect_exit(calibrate({model, "--set", "x.txt"}), 64, {"--output is required"});
  const std::string text = bundled_text("code.yaml");
  expect_exit(calibrate({model, "--set", text, "--windows", "0", "-o", place.out()}), 64, {"--windows: Value 0"});
  expect_exit(calibrate({model, "--set", text, "--tokens", "513", "-o", place.out()}), 64,
              {"windows of 513 tokens do not fit the model's context of 512"});
  EXPECT_FALSE(fs::exists(place.out()));
}

TEST(CalibrateTool, NamesWhatIsWrongWithItsInputs) {
  const Workplace place;
  const std::string model = demo_model().string();
  expect_exit(calibrate({"nowhere", "--set", "x.txt", "-o", place.out()}), 66, {"nowhere: does not exist"});
  expect_exit(calibrate({model, "--set", "none.txt", "-o", place.out()}), 66, {"none.txt"});
  expect_exit(calibrate({model, "--set", place.put("short.txt", "too short").string(), "-o", place.out()}), 65,
              {"short.txt: ", "tokens give 0 windows of 512, but 128 are asked for"});
  fs::create_directory(place.out());
  place.put("out/letter.txt", "dear");
  expect_exit(calibrate(measuring(place.out(), {"--overwrite"})), 73, {"holds other files (letter.txt)"});
  EXPECT_TRUE(fs::exists(place.path() / "out/letter.txt"));
}

}  // namespace
}  // namespace adze::testing
