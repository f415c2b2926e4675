// Where results go: folders that are taken, locked, unwritable or full; two processes at once; what --dry-run promises.
#include <future>
#include <thread>

#include <nlohmann/json.hpp>

#include "model/compressed_store.h"
#include "model/stored_size.h"
#include "tools/scheme_testing.h"

namespace adze::testing {
namespace {

using Json = nlohmann::json;

/// The quickest run there is.
std::string tiny_recipe() { return replaced(rtn_recipe(), "windows: 8, tokens: 128", "windows: 2, tokens: 32"); }

/// Starts a run and ends it once `when` holds.
ProgramResult compress_until(const Workplace& place, const std::string& recipe, int signal,
                             std::function<bool()> when) {
  ProgramOptions options;
  options.interruption = Interruption{signal, std::move(when)};
  return compress(place.recipe(recipe), demo_model(), place.out(), {}, options);
}

TEST(Output, AForeignFolderIsLeftAlone) {
  const Workplace place;
  fs::create_directory(place.out());
  place.put("out/letter.txt", "mine");
  const std::string recipe = place.recipe(tiny_recipe());
  for (const char* const option : {"-q", "--restart", "--overwrite"})
    expect_exit(compress(recipe, demo_model(), place.out(), {option}), 73, {"/out: exists and holds other files"});
  EXPECT_EQ(files_below(place.out()), std::vector<std::string>{"letter.txt"});
}

TEST(Output, AFileInTheWayIsLeftAlone) {
  const Workplace place;
  place.put("out", "mine");
  expect_exit(compress(place.recipe(tiny_recipe()), demo_model(), place.out()), 73, {"/out: exists and is no folder"});
  EXPECT_EQ(read_file(place.out()), "mine");
}

TEST(Output, AFinishedRunIsReplacedOnlyWhenAsked) {
  const Workplace place;
  const std::string recipe = place.recipe(tiny_recipe());
  expect_exit(compress(recipe, demo_model(), place.out()), 0);
  const auto first = result_files(place.out());
  for (const char* const option : {"-q", "--restart"})
    expect_exit(compress(recipe, demo_model(), place.out(), {option}), 73, {"/out: a finished run", "--overwrite"});
  expect_same_files(result_files(place.out()), first);
  expect_exit(compress(recipe, demo_model(), place.out(), {"--overwrite"}), 0);
  expect_same_files(result_files(place.out()), first);
}

TEST(Output, WhatAKilledProcessLeftOfAFinishedRunIsCleanedUp) {
  const Workplace place;
  const std::string recipe = place.recipe(tiny_recipe());
  expect_exit(compress(recipe, demo_model(), place.out()), 0);
  const auto files = result_files(place.out());
  fs::create_directory(fs::path(place.out()) / "work");
  place.put("out/work/lock", "");
  place.put("out/work/states-0006.f32", "xxxx");
  expect_exit(compress(recipe, demo_model(), place.out()), 73, {"/out: a finished run"});
  expect_same_files(result_files(place.out()), files);
}

TEST(Output, AProcessKilledBeforeItHadALockIsNoObstacle) {
  const Workplace place;
  fs::create_directories(fs::path(place.out()) / "work");
  expect_exit(compress(place.recipe(tiny_recipe()), demo_model(), place.out()), 0);
}

TEST(Output, AnEmptyFolderMayBeUsed) {
  const Workplace place;
  fs::create_directory(place.out());
  expect_exit(compress(place.recipe(tiny_recipe()), demo_model(), place.out()), 0);
}

TEST(Output, AFolderThatCannotBeMade) {
  const Workplace place;
  place.put("file", "");
  const std::string too_long(300, 'x');
  for (const std::string& out :
       {std::string("/proc/adze"), (place / "file/out").string(), (place / too_long).string()}) {
    const ProgramResult result = compress(place.recipe(tiny_recipe()), demo_model(), out);
    expect_exit(result, 73, {out, "cannot create"});
  }
}

TEST(Output, ExportAndImportNeedAFolderThatExists) {
  const Workplace place;
  expect_exit(run_program("adze-export", {demo_model().string(), "-o", (place / "no/model.gguf").string()}), 73,
              {"/no/model.gguf", "cannot create"});
  expect_exit(run_program("adze-import", {demo_model().string(), "-o", (place / "no/model.h5").string()}), 73,
              {"/no/model.h5", "cannot create"});
  EXPECT_TRUE(files_below(place.path()).empty());
}

TEST(Output, ExportAndImportReplaceAFileOnlyWhenAsked) {
  const Workplace place;
  for (const auto& [tool, name] : {std::pair{"adze-export", "model.gguf"}, {"adze-import", "model.h5"}}) {
    const std::string file = place.put(name, "mine").string();
    expect_exit(run_program(tool, {demo_model().string(), "-o", file}), 73,
                {file + ": exists; replace it with --overwrite"});
    EXPECT_EQ(read_file(file), "mine");
    expect_exit(run_program(tool, {demo_model().string(), "-o", file, "--overwrite"}), 0);
    EXPECT_NE(read_file(file), "mine");
  }
}

/// A file size limit stands for a full disk: writes fail half way.
TEST(Output, AFullDiskIsAnInputOutputErrorAndLeavesNothingHalfWritten) {
  const Workplace place;
  ProgramOptions full;
  full.largest_file = 1 << 20;
  const std::string file = (place / "model.gguf").string();
  expect_exit(run_program("adze-export", {demo_model().string(), "-o", file}, full), 74,
              {"/model.gguf", "File too large"});
  expect_exit(run_program("adze-import", {demo_model().string(), "-o", (place / "model.h5").string(), "--copy"}, full),
              74, {"/model.h5"});
  EXPECT_TRUE(files_below(place.path()).empty());
  const ProgramResult result = compress(place.recipe(tiny_recipe()), demo_model(), place.out(), {}, full);
  expect_exit(result, 74, {"/out/"});
  EXPECT_FALSE(fs::exists(fs::path(place.out()) / "manifest.json"));
  expect_nothing_half_written(place.path());
  expect_exit(compress(place.recipe(tiny_recipe()), demo_model(), place.out()), 0);  // room again: it goes on
}

TEST(Output, TwoProcessesCannotWorkInOneFolder) {
  const Workplace place;
  const std::string recipe = place.recipe(small_recipe());
  std::optional<ProgramResult> second;
  const auto when_first_works = [&] {
    if (!second && fs::exists(fs::path(place.out()) / "work/ledger"))
      second = compress(recipe, demo_model(), place.out());  // the first goes on meanwhile
    return false;
  };
  const ProgramResult first = compress_until(place, small_recipe(), SIGKILL, when_first_works);
  expect_exit(first, 0);
  ASSERT_TRUE(second.has_value());
  expect_exit(*second, 73, {"/out: "});
}

TEST(Output, AnUnfinishedRunOfAnotherRecipeIsNotMixedWithThisOne) {
  const Workplace place;
  const auto begun = when_exists(fs::path(place.out()) / "store/block-0001.h5");
  expect_exit(compress_until(place, small_recipe(), SIGKILL, begun), -SIGKILL);
  const std::string other = place.recipe(tiny_recipe());
  expect_exit(compress(other, demo_model(), place.out()), 73,
              {"/out: an unfinished run with another calibration and recipe; finish that one", "--restart"});
  EXPECT_TRUE(fs::exists(fs::path(place.out()) / "store/block-0000.h5"));
  expect_exit(compress(other, demo_model(), place.out(), {"--restart"}), 0);
  const Workplace fresh;
  expect_exit(compress(fresh.recipe(tiny_recipe()), demo_model(), fresh.out()), 0);
  expect_same_files(result_files(place.out()), result_files(fresh.out()));
}

TEST(Output, AnUnfinishedRunIsNoModelYet) {
  const Workplace place;
  const auto near_the_end = when_exists(fs::path(place.out()) / "store/model.h5.xxh3");
  ASSERT_TRUE(compress_until(place, small_recipe(), SIGKILL, near_the_end).interrupted);
  if (fs::exists(fs::path(place.out()) / "manifest.json")) GTEST_SKIP() << "the run was too quick to be caught";
  expect_exit(run_program("adze-export", {place.out(), "-o", (place / "x.gguf").string()}), 65,
              {"/out: an unfinished run of adze-compress; run it again to finish it"});
  EXPECT_FALSE(fs::exists(place / "x.gguf"));
}

struct DryRunCase {
  const char* name;
  std::string recipe;
};

std::vector<DryRunCase> dry_run_cases() {
  return {
      {"q4_k", tiny_recipe()},
      {"q8_0, everything", replaced(replaced(tiny_recipe(), "gguf/q4_k", "gguf/q8_0"), "store: f16", "scheme: q4k")},
      {"int4, table in f32",
       replaced(replaced(tiny_recipe(), "grid: gguf/q4_k", "grid: int4, group: 64"), "f16", "f32")},
      {"a few layers, the rest kept", replaced(tiny_recipe(), "layers.**", "layers.*.mlp.*")}};
}

TEST(DryRun, WritesNothingAndPredictsTheBytesOfFileAndStore) {
  for (const DryRunCase& c : dry_run_cases()) {
    SCOPED_TRACE(c.name);
    const Workplace place;
    const std::string recipe = place.recipe(c.recipe);
    const ProgramResult dry = compress(recipe, demo_model(), place.out(), {"--dry-run", "--json"});
    expect_exit(dry, 0);
    EXPECT_EQ(files_below(place.path()), std::vector<std::string>{"recipe.yaml"});
    const Json predicted = Json::parse(dry.out);
    expect_exit(compress(recipe, demo_model(), place.out()), 0);
    const fs::path out = place.out();
    EXPECT_EQ(predicted.at("exports").at(0).at("bytes"), fs::file_size(out / "model.gguf"));
    const StoredSize stored = stored_size(CompressedStore(out / "store"));
    EXPECT_EQ(predicted.at("bytes"), stored.bytes);
    EXPECT_NEAR(predicted.at("bits_per_weight").get<double>(), stored.bits_per_weight(), 1e-12);
  }
}

TEST(DryRun, AcceptsEveryBundledRecipe) {
  for (const fs::directory_entry& recipe : fs::directory_iterator(fs::path(ADZE_SOURCE_DIR) / "recipes")) {
    const std::string text = read_file(recipe.path());
    const bool has_budget = text.find("\nbudget:") != std::string::npos;
    const bool has_no_text = text.find("\ncalibration: none") != std::string::npos;
    Arguments compressing{recipe.path().string(), demo_model().string(), "--dry-run"};
    if (has_no_text) compressing.push_back("--weights-only");
    const ProgramResult result =
        has_budget ? run_program("adze-allocate", joined({recipe.path().string()}, with_statistics({"--dry-run"})))
                   : run_program("adze-compress", compressing);
    expect_exit(result, 0);
    EXPECT_THAT(result.out, ::testing::HasSubstr(has_budget    ? "43 modules choose in 43 groups"
                                                 : has_no_text ? "model-w4a16 (compressed-tensors): "
                                                               : "model.gguf (gguf): "))
        << recipe.path();
  }
}

TEST(DryRun, OfAnExportGivesTheSizeOfTheFile) {
  const Workplace place;
  const std::string file = (place / "model.gguf").string();
  const ProgramResult dry = run_program("adze-export", {demo_model().string(), "-o", file, "--dry-run", "--json"});
  expect_exit(dry, 0);
  EXPECT_FALSE(fs::exists(file));
  expect_exit(run_program("adze-export", {demo_model().string(), "-o", file}), 0);
  EXPECT_EQ(Json::parse(dry.out).at("bytes"), fs::file_size(file));
}

TEST(Export, OfAFinishedRunGivesTheFileOfTheRunAgain) {
  const Workplace place;
  expect_exit(compress(place.recipe(tiny_recipe()), demo_model(), place.out()), 0);
  const std::string file = (place / "again.gguf").string();
  expect_exit(run_program("adze-export", {place.out(), "-o", file}), 0);
  EXPECT_TRUE(read_file(file) == read_file(fs::path(place.out()) / "model.gguf"));
}

TEST(Import, AStoreCompressesToTheSameWeightsAsItsCheckpoint) {
  const Workplace place;
  const std::string store = (place / "demo-llama.h5").string();
  const std::string recipe = place.recipe(tiny_recipe());
  expect_exit(run_program("adze-import", {demo_model().string(), "-o", store}), 0);
  expect_exit(compress(recipe, store, place.out()), 0);
  const Workplace direct;
  expect_exit(compress(direct.recipe(tiny_recipe()), demo_model(), direct.out()), 0);
  EXPECT_TRUE(read_file(fs::path(place.out()) / "model.gguf") == read_file(fs::path(direct.out()) / "model.gguf"));
}

}  // namespace
}  // namespace adze::testing
