// Command lines: help, wrong use, and what each wrong use exits with.
#include "tools/tools_testing.h"

namespace adze::testing {
namespace {

const std::vector<std::string> kTools{"adze-calibrate", "adze-compress", "adze-eval",  "adze-export",
                                      "adze-import",    "adze-inspect",  "adze-prune", "adze-quantize"};

TEST(CommandLine, EveryToolExplainsItselfWithAnExample) {
  for (const std::string& tool : kTools) {
    const ProgramResult result = run_program(tool, {"--help"});
    expect_exit(result, 0);
    const std::string verb = tool.substr(tool.find('-') + 1);
    EXPECT_THAT(result.out, ::testing::HasSubstr("Examples:\n  adze " + verb + " "));
    EXPECT_THAT(result.out, ::testing::HasSubstr("Exit codes: 0 ok"));
    EXPECT_EQ(result.err, "");
  }
}

TEST(CommandLine, EveryVerbOfTheHelpRunsItsTool) {
  const std::string help = run_program("adze", {"--help"}).out;
  for (const std::string& tool : kTools) {
    const std::string verb = tool.substr(tool.find('-') + 1);
    EXPECT_THAT(help, ::testing::HasSubstr("\n  " + verb + " "));
    const ProgramResult result = run_program("adze", {verb, "--help"});
    expect_exit(result, 0);
    EXPECT_EQ(result.out, run_program(tool, {"--help"}).out);
  }
}

TEST(CommandLine, VersionsAgree) {
  const std::string version = run_program("adze", {"--version"}).out;
  EXPECT_EQ(version, "adze " ADZE_VERSION "\n");
  for (const std::string& tool : kTools) EXPECT_EQ(run_program(tool, {"--version"}).out, version);
}

TEST(CommandLine, WithoutArgumentsItSaysWhatIsMissing) {
  for (const std::string& tool : kTools) {
    const ProgramResult result = run_program(tool, {});
    expect_exit(result, 64, {"required", "--help"});
    EXPECT_EQ(result.out, "");
  }
  const ProgramResult result = run_program("adze", {});
  expect_exit(result, 64, {"adze VERB", "compress"});
  EXPECT_EQ(result.out, "");
}

TEST(CommandLine, UnknownOptionsAreNamed) {
  const std::pair<const char*, std::vector<std::string>> kComplete[] = {
      {"adze-calibrate", {"a", "--set", "b", "-o", "c"}},
      {"adze-inspect", {"a"}},
      {"adze-compress", {"a", "b", "-o", "c"}},
      {"adze-eval", {"a", "--text", "b"}},
      {"adze-export", {"a", "-o", "b"}},
      {"adze-import", {"a", "-o", "b"}},
      {"adze-prune", {"a", "--sparsity", "2:4", "-o", "b"}},
      {"adze-quantize", {"a", "--grid", "int4", "-o", "b"}}};
  for (auto [tool, arguments] : kComplete) {
    arguments.push_back("--frobnicate");
    expect_exit(run_program(tool, arguments), 64, {"--frobnicate"});
  }
}

TEST(CommandLine, UnknownVerbsGetASuggestion) {
  const ProgramResult result = run_program("adze", {"compres"});
  expect_exit(result, 64, {"adze: error: unknown verb 'compres'; did you mean 'compress'?", "adze VERB"});
  EXPECT_EQ(result.out, "");
}

TEST(CommandLine, CompressNeedsAnOutputUnlessItIsADryRun) {
  const Workplace place;
  expect_exit(run_program("adze-compress", {place.recipe(small_recipe()), demo_model().string()}), 64,
              {"-o OUT is required (or --dry-run)"});
}

TEST(CommandLine, ThreadsMustBeANumberThatMakesSense) {
  const Workplace place;
  for (const char* const threads : {"-1", "many", "5000"})
    expect_exit(compress(place.recipe(small_recipe()), demo_model(), place.out(), {"--threads", threads}), 64,
                {"--threads"});
  EXPECT_FALSE(fs::exists(place.out()));
}

TEST(CommandLine, MemoryThatIsTooSmallStopsTheRunBeforeItMakesAnything) {
  const Workplace place;
  expect_exit(compress(place.recipe(small_recipe()), demo_model(), place.out(), {"--memory", "20MiB"}), 71,
              {"the run needs ", "--memory allows 20.00 MiB"});
  EXPECT_FALSE(fs::exists(place.out()));
}

TEST(CommandLine, ADryRunRefusesWhatTheRunWouldRefuse) {
  const Workplace place;
  const std::string recipe = place.recipe(small_recipe());
  expect_exit(compress(recipe, demo_model(), place.out(), {"--dry-run", "--memory", "20MiB"}), 71, {"--memory allows"});
  EXPECT_FALSE(fs::exists(place.out()));
  fs::create_directory(place.out());
  place.put("out/letter.txt", "mine");
  expect_exit(compress(recipe, demo_model(), place.out(), {"--dry-run"}), 73, {"/out: exists and holds other files"});
  EXPECT_EQ(files_below(place.out()), std::vector<std::string>{"letter.txt"});
}

/// A store whose checkpoint has moved, opened by every tool that opens models.
TEST(CommandLine, EveryToolTakesTheSourceOfAStore) {
  const Workplace place;
  const fs::path model = place.model();
  const std::string store = (place / "model.h5").string();
  expect_exit(run_program("adze-import", {model.string(), "-o", store}), 0);
  fs::rename(model, place / "moved");
  const std::string recipe = place.recipe(small_recipe());
  place.put("text.txt", read_file(bundled_text("heldout/code.txt")).substr(0, 3000));
  const std::string text = (place / "text.txt").string();
  const std::pair<const char*, std::vector<std::string>> kCalls[] = {
      {"adze-compress", {recipe, store, "--dry-run"}},
      {"adze-eval", {store, "--text", text, "--protocol", "lcpp-128"}},
      {"adze-export", {store, "-o", place.out() + ".gguf", "--dry-run"}},
      {"adze-prune", {store, "--sparsity", "2:4", "--solver", "magnitude", "--dry-run"}},
      {"adze-quantize", {store, "--grid", "int4", "--solver", "rtn", "--dry-run"}},
      {"adze-calibrate", {store, "--set", text, "--windows", "2", "--tokens", "32", "-o", place.out(), "--dry-run"}}};
  for (auto [tool, arguments] : kCalls) {
    SCOPED_TRACE(tool);
    expect_exit(run_program(tool, arguments), 66, {"model.safetensors"});
    arguments.insert(arguments.end(), {"--source", (place / "moved").string(), "--trust"});
    expect_exit(run_program(tool, arguments), 0);
  }
}

TEST(CommandLine, MemoryNeedsAUnitThatExists) {
  const Workplace place;
  for (const char* const memory : {"2Gigs", "-1GiB", "lots", "2gib", ""})
    expect_exit(compress(place.recipe(small_recipe()), demo_model(), place.out(), {"--memory", memory}), 64,
                {"such as 2GiB"});
  EXPECT_FALSE(fs::exists(place.out()));
}

TEST(CommandLine, EvalRefusesAnUnknownProtocol) {
  const Workplace place;
  expect_exit(run_program("adze-eval",
                          {demo_model().string(), "--text", bundled_text("heldout/code.txt"), "--protocol", "wiki"}),
              64, {"unknown perplexity protocol 'wiki'; use lcpp-N or gptq-N"});
}

TEST(CommandLine, ExportRefusesAnUnknownFormat) {
  const Workplace place;
  expect_exit(run_program("adze-export", {demo_model().string(), "--format", "ggfu", "-o", place.out()}), 64,
              {"unknown format 'ggfu'", "did you mean 'gguf'?"});
  EXPECT_FALSE(fs::exists(place.out()));
}

TEST(CommandLine, ExportWantsTheSuffixOfItsFormat) {
  const Workplace place;
  for (const char* const ending : {"", ".dat", ".gguf.tmp"})
    expect_exit(run_program("adze-export", {demo_model().string(), "-o", place.out() + ending}), 64,
                {"must end with .gguf"});
  EXPECT_TRUE(files_below(place.path()).empty());
}

TEST(CommandLine, MessagesShowControlCharactersAsEscapes) {
  const ProgramResult result = run_program("adze-inspect", {"no\x1b[31m\x7fthing"});
  expect_exit(result, 66, {"no\\x1b[31m\\x7fthing"});
  EXPECT_EQ(result.err.find('\x1b'), std::string::npos);
}

TEST(CommandLine, ImportWantsTheSuffixOfAStore) {
  const Workplace place;
  expect_exit(run_program("adze-import", {demo_model().string(), "-o", place.out()}), 64,
              {"a model store is a .h5 file"});
  EXPECT_FALSE(fs::exists(place.out()));
}

TEST(CommandLine, QuietLeavesStderrEmptyAndTheResultOnStdout) {
  const Workplace place;
  const ProgramResult result = run_program("adze-export", {demo_model().string(), "-o", place.out() + ".gguf", "-q"});
  expect_exit(result, 0);
  EXPECT_EQ(result.err, "");
  EXPECT_THAT(result.out, ::testing::HasSubstr("written and read back"));
}

}  // namespace
}  // namespace adze::testing
