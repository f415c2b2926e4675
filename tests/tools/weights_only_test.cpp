// The programs on a checkpoint whose architecture is not known: what works with --weights-only, and what says why not.
#include <nlohmann/json.hpp>

#include "pipeline/unknown_model.h"
#include "tools/scheme_testing.h"

namespace adze::testing {
namespace {

std::string rounding_recipe() {
  return "adze: 1\ncalibration: none\nschemes: { w4: { grid: int4, group: 32, solver: rtn } }\n"
         "rules: [ { modules: \"**\", scheme: w4 } ]\n"
         "export: [ { format: compressed-tensors, file: packed } ]\n";
}

struct UnknownPlace : Workplace {
  UnknownPlace() { write_unknown(path() / "bert", bert_config()); }
  std::string bert() const { return (path() / "bert").string(); }
};

TEST(WeightsOnlyTools, FromFolderToStoreToRunToExport) {
  const UnknownPlace place;
  const std::string store = (place / "bert.h5").string(), floats = (place / "floats").string();
  const ProgramResult imported = run_program("adze-import", {place.bert(), "--weights-only", "-o", store});
  expect_exit(imported, 0);
  EXPECT_THAT(imported.out, ::testing::HasSubstr("weights only"));
  const ProgramResult planned =
      run_program("adze-compress", {place.recipe(rounding_recipe()), store, "--dry-run", "--json"});
  expect_exit(planned, 0);
  EXPECT_EQ(Json::parse(planned.out).at("modules").size(), 13u);
  expect_exit(compress(place.recipe(rounding_recipe()), store, place.out()), 0);
  expect_exit(run_program("adze-export", {place.out(), "--format", "safetensors", "-o", floats}), 0);
  expect_exit(run_program("adze-inspect", {place.out(), "--verify"}), 0);
  expect_exit(run_program("adze-inspect", {store, "--verify"}), 0);
  expect_exit(run_program("adze-inspect", {floats, "--verify"}), 0);
  expect_exit(run_program("adze-inspect", {place.out() + "/packed", "--verify"}), 0);
  expect_exit(
      run_program("adze-export", {place.out(), "--format", "compressed-tensors", "-o", (place / "again").string()}), 0);
  EXPECT_EQ(read_file(place / "again" / "model.safetensors"),
            read_file(fs::path(place.out()) / "packed" / "model.safetensors"));
}

TEST(WeightsOnlyTools, TheFolderItselfIsCompressedToo) {
  const UnknownPlace place;
  const ProgramResult result = compress(place.recipe(rounding_recipe()), place.bert(), place.out(), {"--weights-only"});
  expect_exit(result, 0);
  EXPECT_THAT(result.out, ::testing::HasSubstr("passed on byte for byte"));
  EXPECT_THAT(result.out, ::testing::HasSubstr("the compressed model, for adze export\n"));
  const std::string other = (place / "other").string();
  expect_exit(run_program("adze-quantize", {place.bert(), "--weights-only", "--data-free", "--grid", "int4", "--group",
                                            "32", "--modules", "bert.encoder.**", "-o", other}),
              0);
}

TEST(WeightsOnlyTools, SmallerModelsAreCutOutOfNestedCodes) {
  const UnknownPlace place;
  expect_exit(run_program("adze-quantize", {place.bert(), "--weights-only", "--data-free", "--grid", "int8", "--group",
                                            "32", "--symmetric", "false", "--solver", "nested", "--option", "views=4",
                                            "--modules", "bert.encoder.**", "-o", place.out()}),
              0);
  const auto weights = [&](const char* name, const Arguments& more) {
    const fs::path folder = place / name;
    expect_exit(
        run_program("adze-export", joined({place.out(), "--format", "safetensors", "-o", folder.string()}, more)), 0);
    return read_file(folder / "model.safetensors");
  };
  EXPECT_NE(weights("all", {}), weights("four", {"--planes", "4"}));
}

TEST(WeightsOnlyTools, WhatNeedsARunOfTheModelSaysSo) {
  const UnknownPlace place;
  const std::string recipe = place.recipe(rounding_recipe());
  expect_exit(compress(recipe, place.bert(), place.out()), 65, {"'BertModel' is not supported", "--weights-only"});
  expect_exit(compress(recipe, place.bert(), place.out(), {"--weights-only"}), 0);
  const std::string text = bundled_text("heldout/narrative.txt");
  expect_exit(run_program("adze-eval", {place.out(), "--text", text}), 65, {"architecture is not known"});
  expect_exit(run_program("adze-calibrate", {place.out(), "--set", text, "-o", (place / "stats").string()}), 65,
              {"architecture is not known"});
  expect_exit(run_program("adze-export", {place.out(), "-o", (place / "m.gguf").string()}), 65,
              {"gguf says what a model computes", "safetensors or compressed-tensors"});
  expect_exit(run_program("adze-import", {place.bert(), "--weights-only", "--describe"}), 65,
              {"architecture is not known"});
  expect_exit(run_program("adze-quantize", {place.bert(), "--weights-only", "--grid", "int4", "--group", "32",
                                            "--modules", "**", "-o", (place / "q").string()}),
              64, {"--data-free"});
  EXPECT_FALSE(fs::exists(place / "q"));
}

}  // namespace
}  // namespace adze::testing
