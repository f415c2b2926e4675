// What the dry run predicts against the resident memory of the run itself, and what --memory chooses or refuses.
#include <regex>

#include <nlohmann/json.hpp>

#include "base/words.h"
#include "pipeline/pipeline_testing.h"
#include "tools/run_program.h"

namespace adze::testing {
namespace {

using Json = nlohmann::json;

/// One block that is wide enough for matrices to outweigh the program: H of the down projection takes 50 MiB.
Architecture wide_architecture() {
  Architecture a = tiny_architecture(true);
  a.hidden = 512;
  a.ffn = 2560;
  a.layers = 1;
  a.heads = 8;
  a.kv_heads = 4;
  a.head_dim = 64;
  return a;
}

/// A wide model with a recipe, made once.
struct WideSite : TempFolder {
  WideSite() {
    write_checkpoint(path() / "model", wide_architecture(), random_source(wide_architecture(), DType::bf16));
    write_file(path() / "recipe.yaml",
               "adze: 1\ncalibration: { set: " + calibration_text() +
                   ", windows: 32, tokens: 64, seed: 7 }\n"
                   "schemes: { w4: { grid: int4, group: 32, solver: gptq } }\n"
                   "rules: [ { modules: \"layers.**\", scheme: w4 } ]\n");
  }
  std::vector<std::string> command(std::vector<std::string> more) const {
    std::vector<std::string> words = {(path() / "recipe.yaml").string(), (path() / "model").string(), "--threads", "2"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
};

/// "peak memory 123.45 MiB" of a run's outcome, in bytes.
std::uint64_t measured_peak(const std::string& out) {
  std::smatch match;
  const std::string tail = out.substr(out.find(" s, peak memory "));
  EXPECT_TRUE(std::regex_search(tail, match, std::regex("peak memory ([0-9.]+) MiB"))) << out;
  return parse_bytes(match[1].str() + "MiB").value_or(0);
}

TEST(Memory, PredictedPeakIsTheMeasuredOne) {
  const WideSite site;
  const auto predict = [&](std::vector<std::string> more) {
    more.insert(more.end(), {"--dry-run", "--json"});
    return Json::parse(run_program("adze-compress", site.command(more)).out);
  };
  const Json prediction = predict({});
  const ProgramResult run = run_program("adze-compress", site.command({"-o", (site / "out").string()}));
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const auto predicted = prediction.at("peak_memory").get<double>();
  const auto measured = static_cast<double>(measured_peak(run.out));
  constexpr double kSlack = 16 << 20;
  EXPECT_LT(measured, 1.25 * predicted + kSlack) << prediction.at("peak_parts");
  EXPECT_GT(measured, 0.75 * predicted - kSlack) << prediction.at("peak_parts");
}

TEST(Memory, ALimitChangesWhatIsHeldButNotTheResult) {
  const WideSite site;
  ASSERT_EQ(run_program("adze-compress", site.command({"-o", (site / "free").string()})).exit_code, 0);
  const Json least = Json::parse(run_program("adze-compress", site.command({"--dry-run", "--json"})).out);
  const auto limit = std::to_string(least.at("peak_memory").get<std::uint64_t>() - (2 << 20));
  const ProgramResult bounded =
      run_program("adze-compress", site.command({"-o", (site / "bounded").string(), "--memory", limit}));
  ASSERT_EQ(bounded.exit_code, 0) << bounded.err;
  EXPECT_THAT(bounded.out, ::testing::HasSubstr("to keep within --memory: "));
  EXPECT_EQ(read_file(site / "bounded/store/block-0000.h5"), read_file(site / "free/store/block-0000.h5"));
}

TEST(Memory, WhatCannotFitIsRefusedBeforeWorkNamingWhatTakesIt) {
  const WideSite site;
  const ProgramResult refused =
      run_program("adze-compress", site.command({"-o", (site / "out").string(), "--memory", "60MiB"}));
  EXPECT_EQ(refused.exit_code, 71);
  EXPECT_THAT(refused.err, ::testing::HasSubstr("the run needs "));
  EXPECT_THAT(refused.err, ::testing::HasSubstr("H 50.00 MiB"));
  EXPECT_THAT(refused.err, ::testing::HasSubstr("--memory allows 60.00 MiB"));
  EXPECT_FALSE(fs::exists(site / "out"));
}

}  // namespace
}  // namespace adze::testing
