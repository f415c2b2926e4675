// Recipes that cannot be carried out: exit code 78, file:line:column, the line itself, and nothing made.
#include "tools/tools_testing.h"

namespace adze::testing {
namespace {

void expect_recipe_refused(const std::string& recipe, Words words, int code = 78) {
  const Workplace place;
  expect_refused(place, recipe, demo_model(), code, words);
}

/// small_recipe() with one piece exchanged.
std::string changed(std::string_view from, std::string_view to) { return replaced(small_recipe(), from, to); }

TEST(BadRecipe, DoesNotExist) {
  const Workplace place;
  const ProgramResult result = compress((place / "nothing.yaml").string(), demo_model(), place.out());
  expect_exit(result, 66, {"/nothing.yaml: cannot open"});
  EXPECT_FALSE(fs::exists(place.out()));
}

TEST(BadRecipe, HasAnUnknownKey) {
  expect_recipe_refused(changed("solver: gptq", "solvr: gptq"),
                        {"recipe.yaml:4:", "unknown key 'solvr'; did you mean 'solver'?", "  q4k: {", "^"});
}

TEST(BadRecipe, HasAnUnknownSolverOption) {
  expect_recipe_refused(changed("solver: gptq", "solver: gptq, dampp: 0.1"),
                        {"recipe.yaml:4:", "unknown key 'dampp'; did you mean 'damp'?"});
}

TEST(BadRecipe, HasAWrongUnit) {
  expect_recipe_refused(small_recipe() + "budget: { size: 4 GiX, of: gguf }\n", {"recipe.yaml:10:", "'size'", "4 GiX"});
  expect_recipe_refused(changed("tokens: 128", "tokens: 128 words"), {"recipe.yaml:2:", "'tokens'", "128 words"});
}

TEST(BadRecipe, HasARuleThatMatchesNothing) {
  expect_recipe_refused(changed("layers.**", "layer.**"), {"recipe.yaml:7:", "'layer.**' matches no module"});
  expect_recipe_refused(changed("layers.**", "layers.0.mlp.downproj"),
                        {"'layers.0.mlp.downproj' matches no module; did you mean 'layers.0.mlp.down_proj'?"});
}

TEST(BadRecipe, HasADuplicateKey) {
  expect_recipe_refused(changed("windows: 8,", "windows: 8, windows: 9,"),
                        {"recipe.yaml:2:", "duplicate key 'windows'"});
}

/// Nine levels of nine aliases each would be 3.8e8 nodes.
TEST(BadRecipe, IsAnAliasBomb) {
  std::string text = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n";
  for (int level = 1; level < 9; ++level) {
    std::string aliases;
    for (int i = 0; i < 9; ++i) aliases += fmt::format("{}*a{}", i > 0 ? "," : "", level - 1);
    text += fmt::format("a{}: &a{} [{}]\n", level, level, aliases);
  }
  expect_recipe_refused(text + small_recipe(), {"recipe.yaml:", "not supported"});
}

TEST(BadRecipe, TreatsATiedTableInTwoWays) {
  expect_recipe_refused(changed("rules:\n", "rules:\n  - { modules: \"embed_tokens\", store: f32 }\n"),
                        {"recipe.yaml:7:", "embed_tokens and lm_head are one table in this model",
                         "'embed_tokens' and 'lm_head' treat it differently"});
}

TEST(BadRecipe, HasAGroupThatDoesNotDivideARow) {
  expect_recipe_refused(changed("grid: gguf/q4_k", "grid: int4, group: 96"),
                        {"recipe.yaml:7:",
                         "layers.0.self_attn.q_proj: int4 g96 sym: rows of 256 columns do not divide "
                         "into groups of 96; group: 64 does"});
}

TEST(BadRecipe, NamesAnUnknownGrid) {
  expect_recipe_refused(changed("gguf/q4_k", "gguf/q4_kk"),
                        {"recipe.yaml:4:", "unknown grid 'gguf/q4_kk'; did you mean 'gguf/q4_k'?"});
}

TEST(BadRecipe, NamesAnUnknownSolver) {
  expect_recipe_refused(changed("gptq", "gpqt"), {"recipe.yaml:4:", "unknown solver 'gpqt'; did you mean 'gptq'?"});
}

TEST(BadRecipe, NamesAnUnknownExportFormat) {
  expect_recipe_refused(changed("format: gguf", "format: ggfu"),
                        {"recipe.yaml:9:", "unknown export format 'ggfu'; did you mean 'gguf'?"});
}

TEST(BadRecipe, ExportsWhatTheFormatCannotHold) {
  expect_recipe_refused(changed("grid: gguf/q4_k", "grid: int6, group: 64, symmetric: false"),
                        {"recipe.yaml:9:", "layers.0.self_attn.q_proj", "int6 g64 asym"});
}

TEST(BadRecipe, ExportsOutsideTheOutputFolderOrOverTheRunItself) {
  for (const char* const file : {"../model.gguf", "/tmp/model.gguf"})
    expect_recipe_refused(changed("model.gguf", file), {"recipe.yaml:9:", "must lie in the output folder"});
  for (const char* const file : {"manifest.json", "store/model.h5", "work/ledger", "recipe.yaml"})
    expect_recipe_refused(changed("model.gguf", file), {"recipe.yaml:9:", "belongs to the run itself"});
}

TEST(BadRecipe, HasWindowsLongerThanTheModelsContext) {
  expect_recipe_refused(changed("tokens: 128", "tokens: 1024"),
                        {"recipe.yaml:2:", "windows of 1024 tokens", "the model's context is 512"});
  expect_recipe_refused(small_recipe() + "evaluate: { text: " + bundled_text("heldout/code.txt") + ", context: 513 }\n",
                        {"recipe.yaml:10:", "windows of 513 tokens", "the model's context is 512"});
}

TEST(BadRecipe, EvaluatesWithAnUnknownProtocol) {
  expect_recipe_refused(
      small_recipe() + "evaluate: { text: " + bundled_text("heldout/code.txt") + ", protocol: wiki }\n",
      {"recipe.yaml:10:", "wiki", "lcpp"});
}

TEST(BadRecipe, ShowsAllItsProblemsAtOnce) {
  const std::string recipe = replaced(changed("gguf/q4_k", "q9"), "format: gguf", "format: x");
  expect_recipe_refused(recipe, {"recipe.yaml:4:", "unknown grid 'q9'", "recipe.yaml:9:", "unknown export format 'x'"});
}

TEST(BadRecipe, IsNoText) {
  expect_recipe_refused(std::string("\0\1\2\xFF", 4), {"recipe.yaml:1:1"});
  expect_recipe_refused("", {"recipe.yaml"});
}

/// Calibration with `bytes` as its text.
void expect_text_refused(std::string_view bytes, int code, Words words) {
  const Workplace place;
  const std::string text = place.put("text.txt", bytes).string();
  expect_refused(place, replaced(small_recipe(), bundled_text("calib/narrative.txt"), text), demo_model(), code, words);
}

TEST(BadText, IsEmpty) { expect_text_refused("", 65, {"/text.txt: the text is empty"}); }

TEST(BadText, IsOneToken) {
  expect_text_refused("a", 65, {"/text.txt: 1 tokens give 0 windows of 128, but 8 are asked for"});
}

TEST(BadText, IsNotUtf8) {
  expect_text_refused("good text\xE9 bad", 65, {"/text.txt: byte 9: not UTF-8; convert it first"});
}

TEST(BadText, IsTooShortForTheWindows) {
  expect_text_refused(read_file(bundled_text("calib/narrative.txt")).substr(0, 2000), 65,
                      {"/text.txt: ", " windows of 128, but 8 are asked for; add text, or lower windows or tokens"});
}

TEST(BadText, DoesNotExist) {
  const Workplace place;
  expect_refused(place, replaced(small_recipe(), "calib/narrative.txt", "calib/nothing.txt"), demo_model(), 66,
                 {"/calib/nothing.txt: cannot open"});
}

TEST(BadText, OfTheEvaluationIsTooShort) {
  const Workplace place;
  place.put("short.txt", "a few words");
  expect_refused(place, small_recipe() + "evaluate: { text: short.txt, context: 64 }\n", demo_model(), 65,
                 {"/short.txt: ", "one window of 64 is needed"});
}

}  // namespace
}  // namespace adze::testing
