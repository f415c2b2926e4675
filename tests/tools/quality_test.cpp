// bench/quality.sh from end to end on the bundled model: few windows, one grid, a short text.
#include <map>
#include <sstream>

#include <nlohmann/json.hpp>

#include "architecture/documents.h"
#include "export/llama_cpp.h"
#include "tools/tools_testing.h"

namespace adze::testing {
namespace {

using Json = nlohmann::json;

const std::set<std::string> kFields = {"table",      "scheme",  "bytes", "bits_per_weight",
                                       "perplexity", "kl_mean", "kl_se", "same_top"};

/// What the script prints: its stdout, or with `errors` its stderr too.
CommandResult quality(const std::string& arguments, bool errors = false) {
  return run_command("(bash " + quoted(fs::path(ADZE_SOURCE_DIR) / "bench/quality.sh") + " " + arguments +
                     " --windows 16 --bin " + quoted(fs::path(ADZE_BIN_DIR)) + (errors ? " 2>&1" : "") + ")");
}

/// The lines of JSON by table and scheme.
std::map<std::string, Json> lines_by_scheme(const std::string& text) {
  std::map<std::string, Json> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("{")) {
      const Json json = Json::parse(line);
      lines[json["table"].get<std::string>() + " " + json["scheme"].get<std::string>()] = json;
    }
  return lines;
}

/// A text of two windows, and a folder with one file as llama.cpp's would lie there: Q4_0 by plain rounding.
class QualityScript : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string recipe = place.recipe(replaced(rtn_recipe(), "gguf/q4_k", "gguf/q4_0"));
    ASSERT_EQ(run_program("adze-compress", {recipe, demo_model().string(), "-o", place.out(), "-q"}).exit_code, 0);
    place.put("text.txt", text_of("code", 3600));
    fs::create_directory(place.path() / "peers");
    fs::copy_file(fs::path(place.out()) / "model.gguf", place.path() / "peers/demo-q4_0-pure.gguf");
  }
  std::string inputs() const {
    return " --peers " + quoted(place.path() / "peers") + " --eval " + quoted(place.path() / "text.txt");
  }

  Workplace place;
};

TEST_F(QualityScript, PrintsALineOfJsonForEveryFile) {
  const CommandResult result = quality("gguf --only q4_0 --json" + inputs());
  ASSERT_EQ(result.exit_code, 0) << result.output;
  const auto lines = lines_by_scheme(result.output);
  ASSERT_EQ(lines.size(), 2u) << result.output;
  for (const auto& [name, json] : lines) {
    std::set<std::string> fields;
    for (const auto& [key, value] : json.items()) fields.insert(key);
    EXPECT_EQ(fields, kFields) << name;
  }
  const Json& ours = lines.at("gguf q4_0");
  const Json& theirs = lines.at("gguf q4_0 llama.cpp");
  EXPECT_EQ(ours["bytes"], theirs["bytes"]);
  EXPECT_GT(ours["kl_mean"], 1e-4);
  EXPECT_LT(ours["kl_mean"], theirs["kl_mean"]);
  EXPECT_GT(ours["kl_se"], 0);
  EXPECT_GT(ours["same_top"], 0.8);
  EXPECT_LT(ours["same_top"], 1);
}

TEST_F(QualityScript, PrintsATableWithTheRatioToLlamaCppsFile) {
  const CommandResult result = quality("gguf --only q4_0" + inputs());
  ASSERT_EQ(result.exit_code, 0) << result.output;
  EXPECT_THAT(result.output,
              ::testing::ContainsRegex("[|] q4_0 llama.cpp [|].*[|]  [|]\n[|] q4_0 [|].* 0[.][0-9]+ [|]\n"));
}

TEST_F(QualityScript, JudgesPrunedModelsAsStored) {
  const CommandResult result = quality("joint --only '50%-@(magnitude|wanda)' --json" + inputs());
  ASSERT_EQ(result.exit_code, 0) << result.output;
  const auto lines = lines_by_scheme(result.output);
  ASSERT_EQ(lines.size(), 2u) << result.output;
  const Json& magnitude = lines.at("joint 50%-magnitude");
  const Json& wanda = lines.at("joint 50%-wanda");
  EXPECT_EQ(magnitude["bytes"], wanda["bytes"]);
  EXPECT_LT(magnitude["bits_per_weight"], 12);  // masks and kept weights, not the zeros
  EXPECT_LT(wanda["kl_mean"], magnitude["kl_mean"]);
}

TEST_F(QualityScript, ComparesTransformsAlthoughAnUntiedHeadTakesBytes) {
  const CommandResult result = quality("transform --only 'w3-rtn?(-rotated)'" + inputs());
  ASSERT_EQ(result.exit_code, 0) << result.output;
  EXPECT_THAT(result.output, ::testing::ContainsRegex("[|] w3-rtn [|] [0-9]+ .*[|]  [|]\n"
                                                      "[|] w3-rtn-rotated [|] [0-9]+ .*[|] [0-9.]+ [|]\n"));
}

TEST_F(QualityScript, JudgesFactorisedModelsAsStored) {
  const CommandResult result = quality("lowrank --only '80-@(svd|svd-llm)' --json" + inputs());
  ASSERT_EQ(result.exit_code, 0) << result.output;
  const auto lines = lines_by_scheme(result.output);
  ASSERT_EQ(lines.size(), 2u) << result.output;
  EXPECT_EQ(lines.at("lowrank 80-svd")["bytes"], lines.at("lowrank 80-svd-llm")["bytes"]);
  EXPECT_LT(lines.at("lowrank 80-svd-llm")["kl_mean"], lines.at("lowrank 80-svd")["kl_mean"]);
}

TEST_F(QualityScript, AllocatesInTheBytesOfOneSchemeForAll) {
  const CommandResult result = quality("allocation --only 'rtn-q3_k*' --json" + inputs());
  ASSERT_EQ(result.exit_code, 0) << result.output;
  const auto lines = lines_by_scheme(result.output);
  ASSERT_EQ(lines.size(), 2u) << result.output;
  const Json& one = lines.at("allocation rtn-q3_k");
  const Json& allocated = lines.at("allocation rtn-q3_k-allocated");
  EXPECT_LE(allocated["bytes"], one["bytes"]);
  EXPECT_GT(allocated["bytes"], 0.999 * one["bytes"].get<double>());
  EXPECT_LT(allocated["kl_mean"], one["kl_mean"]);
}

/// A mix that another program has made: its types solved by us, and the choice within its bytes.
TEST_F(QualityScript, TakesTheTypesAndTheSizeOfAMix) {
  std::string mix = replaced(rtn_recipe(), "store: f16", "scheme: q6");
  mix = replaced(mix, "  q4k: {",
                 "  q6: { grid: gguf/q6_k, solver: rtn }\n  q3: { grid: gguf/q3_k, solver: rtn }\n  q4k: {");
  mix = replaced(mix, "  - { modules: \"layers.**\"",
                 "  - { modules: \"layers.*.mlp.up_proj\", scheme: q3 }\n  - { modules: \"layers.**\"");
  fs::remove_all(place.out());
  ASSERT_EQ(run_program("adze-compress", {place.recipe(mix), demo_model().string(), "-o", place.out(), "-q"}).exit_code,
            0);
  fs::copy_file(fs::path(place.out()) / "model.gguf", place.path() / "peers/demo-q3_k_m-mix.gguf");
  const CommandResult result = quality("mixed --only 'q3_k_m-*' --json" + inputs());
  ASSERT_EQ(result.exit_code, 0) << result.output;
  const auto lines = lines_by_scheme(result.output);
  ASSERT_EQ(lines.size(), 3u) << result.output;
  const Json& theirs = lines.at("mixed q3_k_m llama.cpp");
  const Json& types = lines.at("mixed q3_k_m-gptq");
  const Json& allocated = lines.at("mixed q3_k_m-allocated");
  EXPECT_NEAR(types["bytes"].get<double>(), theirs["bytes"].get<double>(), 64);  // names of recipes in metadata
  EXPECT_LT(types["kl_mean"], theirs["kl_mean"]);
  EXPECT_LE(allocated["bytes"], theirs["bytes"]);
  EXPECT_LT(allocated["kl_mean"], types["kl_mean"]);
  EXPECT_EQ(quality("mixed --only 'q2_k-*'" + inputs(), true).exit_code, 64);  // no such file
}

TEST_F(QualityScript, JudgesInLlamaCppItself) {
  if (const std::string reason = missing_runtime(); !reason.empty()) GTEST_SKIP() << reason;
  const CommandResult result = quality("gguf --only q4_0 --json --runtime --runtime-windows 2" + inputs());
  ASSERT_EQ(result.exit_code, 0) << result.output;
  const auto lines = lines_by_scheme(result.output);
  ASSERT_EQ(lines.size(), 4u) << result.output;
  for (const std::string scheme : {"q4_0", "q4_0 llama.cpp"}) {  // all windows of the text: the same tokens as here
    const Json& here = lines.at("gguf " + scheme);
    const Json& there = lines.at("gguf-runtime " + scheme);
    EXPECT_EQ(here["bytes"], there["bytes"]);
    EXPECT_NEAR(there["perplexity"].get<double>() / here["perplexity"].get<double>(), 1, 0.01);
    EXPECT_NEAR(there["kl_mean"].get<double>() / here["kl_mean"].get<double>(), 1, 0.2);
  }
}

TEST(QualityScriptOptions, UnknownTablesAreRefusedWithTheNamesOfThoseThatExist) {
  const CommandResult result = quality("no-such-table", true);
  EXPECT_EQ(result.exit_code, 64);
  EXPECT_THAT(result.output, ::testing::HasSubstr("there are: gguf ablation joint lowrank allocation mixed transform"));
}

TEST(QualityScriptOptions, AFileThatIsMissingIsRefused) {
  const CommandResult result = quality("gguf --model /no/such/model", true);
  EXPECT_EQ(result.exit_code, 64);
  EXPECT_THAT(result.output, ::testing::HasSubstr("/no/such/model does not exist"));
}

}  // namespace
}  // namespace adze::testing
