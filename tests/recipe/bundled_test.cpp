// The recipes and text sets that come with adze: they parse, name files that exist, and say what their names promise.
#include <filesystem>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/file.h"
#include "recipe/recipe.h"
#include "recipe/text_set.h"

namespace adze {
namespace {

const std::filesystem::path kSource = ADZE_SOURCE_DIR;

std::vector<std::string> long_lines(const std::filesystem::path& path, std::size_t at_least) {
  std::vector<std::string> lines;
  std::istringstream text(read_file(path));
  for (std::string line; std::getline(text, line);)
    if (line.size() >= at_least) lines.push_back(line);
  return lines;
}

class BundledRecipe : public ::testing::TestWithParam<const char*> {};

TEST_P(BundledRecipe, ParsesWithoutWarningsAndNamesTextSetsThatExist) {
  const Recipe recipe = load_recipe(kSource / "recipes" / GetParam());
  EXPECT_TRUE(recipe.warnings.empty()) << recipe.warnings.format_all();
  EXPECT_EQ(recipe.calibration.set, kSource / "calibration_data/mixed.yaml");
  EXPECT_EQ(recipe.calibration.windows, 64u);
  EXPECT_EQ(recipe.calibration.tokens, 512u);
  EXPECT_EQ(recipe.calibration.seed, 7u);
  EXPECT_TRUE(std::filesystem::exists(recipe.calibration.set));
  EXPECT_TRUE(std::filesystem::exists(recipe.evaluate->text));
  ASSERT_EQ(recipe.rules.size(), 2u);
  EXPECT_EQ(recipe.rules[0].modules, "lm_head");
  EXPECT_EQ(recipe.rules[0].store, DType::f16);
  EXPECT_EQ(recipe.rules[1].modules, "layers.**");
  ASSERT_EQ(recipe.exports.size(), 1u);
  EXPECT_EQ(recipe.exports[0].format, "gguf");
  EXPECT_EQ(recipe.exports[0].file, "model.gguf");
}

INSTANTIATE_TEST_SUITE_P(All, BundledRecipe,
                         ::testing::Values("q4_k.yaml", "q8_0.yaml", "w4-g128.yaml", "w3-g128.yaml"));

TEST(BundledRecipes, AllParse) {
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kSource / "recipes")) {
    if (entry.path().extension() != ".yaml") continue;
    ++count;
    EXPECT_NO_THROW(load_recipe(entry.path())) << entry.path();
  }
  EXPECT_GE(count, 4u);
}

TEST(BundledRecipes, UseTheGridsTheirNamesSay) {
  EXPECT_EQ(load_recipe(kSource / "recipes/q4_k.yaml").schemes.at(0).grid, "gguf/q4_k");
  EXPECT_EQ(load_recipe(kSource / "recipes/q8_0.yaml").schemes.at(0).grid, "gguf/q8_0");
  const Recipe w4 = load_recipe(kSource / "recipes/w4-g128.yaml");
  EXPECT_EQ(w4.schemes.at(0).grid, "int4");
  EXPECT_EQ(w4.schemes.at(0).group, 128u);
  EXPECT_EQ(w4.schemes.at(0).symmetric, true);
  EXPECT_EQ(load_recipe(kSource / "recipes/rotate-w3.yaml").transforms.at(0).kind, "rotate");
  EXPECT_EQ(load_recipe(kSource / "recipes/prune-ffn-20.yaml").transforms.at(0).kind, "prune-ffn");
  const Recipe w3 = load_recipe(kSource / "recipes/w3-g128.yaml");
  EXPECT_EQ(w3.schemes.at(0).grid, "int3");
  EXPECT_EQ(w3.schemes.at(0).group, 128u);
}

TEST(BundledTextSets, ParseAndNameTextsThatExist) {
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kSource / "calibration_data")) {
    if (entry.path().extension() != ".yaml") continue;
    ++count;
    for (const TextSpec& text : load_text_set(entry.path()).texts)
      EXPECT_TRUE(std::filesystem::exists(text.file)) << text.file;
  }
  EXPECT_GE(count, 7u);
}

TEST(BundledTextSets, MixedTakesTurnsAndHeldOutSharesNoTextWithIt) {
  const TextSet mixed = load_text_set(kSource / "calibration_data/mixed.yaml");
  const TextSet heldout = load_text_set(kSource / "calibration_data/heldout.yaml");
  EXPECT_EQ(mixed.interleave, 2000u);
  EXPECT_EQ(heldout.interleave, std::nullopt);
  EXPECT_EQ(mixed.texts.size(), 5u);
  EXPECT_EQ(heldout.texts.size(), 5u);
  for (const TextSpec& text : mixed.texts) EXPECT_EQ(text.file.parent_path().filename(), "calib");
  for (const TextSpec& text : heldout.texts) EXPECT_EQ(text.file.parent_path().filename(), "heldout");
}

TEST(BundledTextSets, HeldOutTextsRepeatNoLongLineOfCalibrationTexts) {
  constexpr std::size_t kLongLine = 50;  // shorter ones are titles, imports, braces
  std::set<std::string> seen;
  for (const TextSpec& text : load_text_set(kSource / "calibration_data/mixed.yaml").texts)
    for (std::string& line : long_lines(text.file, kLongLine)) seen.insert(std::move(line));
  ASSERT_GT(seen.size(), 500u);
  for (const TextSpec& text : load_text_set(kSource / "calibration_data/heldout.yaml").texts)
    for (const std::string& line : long_lines(text.file, kLongLine)) EXPECT_FALSE(seen.contains(line)) << line;
}

TEST(BundledTextSets, HaveTheSizesTheirReadmeSays) {
  const std::string readme = read_file(kSource / "calibration_data/README.md");
  for (const char* set : {"mixed.yaml", "heldout.yaml"})
    for (const TextSpec& text : load_text_set(kSource / "calibration_data" / set).texts) {
      const auto bytes = std::filesystem::file_size(text.file);
      EXPECT_THAT(readme, ::testing::HasSubstr(fmt::format("{},{:03}", bytes / 1000, bytes % 1000))) << text.file;
    }
}

}  // namespace
}  // namespace adze
