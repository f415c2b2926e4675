// adze-quantize: what it makes, that it is what adze-compress makes of the same inputs, and what it refuses.
#include "tools/scheme_testing.h"

namespace adze::testing {
namespace {

ProgramResult quantize(const Arguments& arguments, const ProgramOptions& options = {}) {
  return run_program("adze-quantize", arguments, options);
}

TEST(Quantize, GivesAModelThatExportsAndResemblesTheOriginalMoreThanARoundedOne) {
  const Workplace place;
  const std::string rounded = (place / "rounded").string();
  const std::string file = (place / "model.gguf").string();
  const ProgramResult result = quantize(with_statistics({"--grid", "gguf/q4_k", "-o", place.out()}));
  expect_exit(result, 0);
  for (const char* const words : {"layers.**", "gguf/q4_k", "kept as they are: embed_tokens", "8 windows, 1024 tokens",
                                  "nothing is shifted", "down_proj", "manifest.json"})
    EXPECT_THAT(result.out, ::testing::HasSubstr(words));
  EXPECT_EQ(files_below(place.out()).size(), 2U * 7 + 4);  // blocks and their sidecars, manifest, three reports
  expect_exit(quantize(on_demo({"--grid", "gguf/q4_k", "--solver", "rtn", "-o", rounded})), 0);
  expect_exit(run_program("adze-export", {place.out(), "-o", file}), 0);
  const double kl = divergence(place.out());
  EXPECT_LT(kl, 0.01);
  EXPECT_LT(kl, divergence(rounded));
  EXPECT_NEAR(divergence(file), kl, 1e-6);
}

/// The same windows, measured by the run itself.
std::string compress_recipe(const std::string& scheme, const std::string& modules) {
  return "adze: 1\ncalibration: { set: " + bundled_text("calib/narrative.txt") +
         ", windows: 8, tokens: 128, seed: 7 }\nschemes: { s: { " + scheme + " } }\nrules: [ { modules: \"" + modules +
         "\", scheme: s } ]\npropagate: original\nstages: 1\n";
}

TEST(Quantize, GivesTheBytesOfACompressRunThatMeasuresTheOriginalModel) {
  const Workplace place;
  const std::string ours = (place / "ours").string();
  const auto expect_same = [&](const std::string& scheme, const std::string& tool, const Arguments& arguments,
                               const std::string& modules) {
    SCOPED_TRACE(scheme);
    expect_exit(compress(place.recipe(compress_recipe(scheme, modules)), demo_model(), place.out(), {"--overwrite"}),
                0);
    expect_exit(run_program(tool, with_statistics(joined(
                                      arguments, {"--modules", modules, "-o", ours, "--overwrite", "--threads", "1"}))),
                0);
    expect_same_files(store_files(ours), store_files(place.out()));
    const Json theirs = Json::parse(read_file(fs::path(place.out()) / "manifest.json"));
    EXPECT_EQ(Json::parse(read_file(fs::path(ours) / "manifest.json")).at("tensors"), theirs.at("tensors"));
  };
  expect_same("grid: gguf/q4_k", "adze-quantize", {"--grid", "gguf/q4_k"}, "layers.**");
  expect_same("grid: int3, group: 64, symmetric: false, order: activation, damp: 0.05", "adze-quantize",
              {"--grid", "int3", "--group", "64", "--symmetric", "false", "--option", "order=activation", "--option",
               "damp=0.05"},
              "**");
  expect_same("solver: sparsegpt, sparsity: \"2:4\"", "adze-prune", {"--sparsity", "2:4"}, "layers.**");
  expect_same("solver: wanda, sparsity: 50%, grid: int4", "adze-prune",
              {"--sparsity", "50%", "--grid", "int4", "--solver", "wanda"}, "layers.*.mlp.*");
}

TEST(Quantize, GivesTheSameBytesOnAnyNumberOfThreads) {
  const Workplace place;
  const std::string other = (place / "other").string();
  const Arguments scheme = with_statistics({"--grid", "int4", "--modules", "layers.0.**"});
  expect_exit(quantize(joined(scheme, {"-o", place.out(), "--threads", "1"})), 0);
  expect_exit(quantize(joined(scheme, {"-o", other, "--threads", "2"})), 0);
  expect_same_files(result_files(other), result_files(place.out()));
}

TEST(Quantize, TellsTheManifestAsJsonAndIsQuiet) {
  const Workplace place;
  const ProgramResult result = quantize(with_statistics({"--grid", "gguf/q4_k", "-o", place.out(), "--json", "-q"}));
  expect_exit(result, 0);
  EXPECT_EQ(result.err, "");
  EXPECT_EQ(result.out, read_file(fs::path(place.out()) / "manifest.json"));
  const Json json = Json::parse(result.out);
  EXPECT_EQ(json.at("/model/name"_json_pointer), "demo-llama");
  EXPECT_EQ(json.at("/scheme/options"_json_pointer), "--grid gguf/q4_k --solver gptq --modules layers.**");
  EXPECT_EQ(json.at("/scheme/format"_json_pointer), "gguf/q4_k");
  EXPECT_EQ(json.at("/calibration/windows"_json_pointer), 8);
  EXPECT_EQ(json.at("/calibration/total_tokens"_json_pointer), 1024);
  EXPECT_EQ(json.at("tensors").size(), 6U * 7);
  EXPECT_EQ(json.at("files").size(), 2U * 7);
  EXPECT_FALSE(json.contains("seconds"));
  const Json report = Json::parse(read_file(fs::path(place.out()) / "report.json"));
  EXPECT_GT(report.at("tensors")[0].at("seconds").get<double>(), 0);
  expect_exit(run_program("adze-inspect", {place.out(), "--verify"}), 0);
}

TEST(Quantize, ADryRunPrintsExactBytesAndWritesNothing) {
  const Workplace place;
  const Arguments scheme = on_demo({"--grid", "gguf/q8_0", "--solver", "rtn", "-o", place.out(), "--json"});
  const ProgramResult dry = quantize(joined(scheme, {"--dry-run"}));
  expect_exit(dry, 0);
  expect_no_output(place);
  const Json predicted = Json::parse(dry.out);
  const ProgramResult result = quantize(scheme);
  expect_exit(result, 0);
  const Json made = Json::parse(result.out);
  EXPECT_EQ(predicted.at("bytes"), made.at("/stored/bytes"_json_pointer));
  EXPECT_EQ(predicted.at("modules")[1].at("bytes"), made.at("tensors")[0].at("bytes"));
  EXPECT_THAT(made.at("remark").get<std::string>(), ::testing::HasSubstr("no statistics"));
  EXPECT_THAT(quantize(on_demo({"--grid", "int8", "--solver", "rtn", "--dry-run"})).out,
              ::testing::ContainsRegex("layers.\\*\\* +42 +bf16 +int8 g128 sym"));
}

TEST(Quantize, RefusesSchemesThatCannotBeWithTheirPlaceInTheCommandLine) {
  const auto refuses = [](const Arguments& arguments, Words words) {
    expect_tool_refuses("adze-quantize", with_statistics(arguments), 64, words);
  };
  refuses({"--grid", "gguf/q4_kk"}, {"unknown grid 'gguf/q4_kk'; did you mean 'gguf/q4_k'?",
                                     "\n    --grid gguf/q4_kk --solver gptq --modules layers.**\n           ^"});
  refuses({"--grid", "int4", "--solver", "gtpq"}, {"unknown solver 'gtpq'; did you mean 'gptq'?"});
  refuses({"--grid", "int4", "--option", "dampp=0.1"},
          {"unknown key 'dampp'; did you mean 'damp'?",
           "\n    --grid int4 --solver gptq --option dampp=0.1 --modules layers.**\n"
           "                                       ^"});
  refuses({"--grid", "int4", "--option", "damp=much"},
          {"'damp' must be a number from 0 to 0.99, found the text 'much'"});
  refuses({"--grid", "int4", "--option", "damp"}, {"--option 'damp': write KEY=VALUE"});
  refuses({"--grid", "int4", "--option", "damp=0", "--option", "damp=1"}, {"'damp' is given twice"});
  refuses({"--grid", "int4", "--group", "96"}, {"rows of 256 columns do not divide into groups of 96; group: 64 does"});
  refuses({"--grid", "int4", "--group", "many"}, {"'group' must be a whole number", "found the text 'many'"});
  refuses({"--grid", "int4", "--symmetric", "perhaps"}, {"'symmetric' must be true or false"});
  refuses({"--grid", "int4", "--modules", "layer.**"}, {"'layer.**' matches no module"});
  refuses({"--grid", "int4", "--option", "sparsity=50%"}, {"a sparsity is given; that is what adze prune does"});
  refuses({"--grid", "int4", "--solver", "wanda"}, {"solver wanda prunes; that is what adze prune does"});
}

TEST(Quantize, WantsAGridAndAnOutput) {
  expect_exit(quantize(with_statistics({"-o", "x"})), 64, {"--grid is required"});
  expect_exit(quantize(with_statistics({"--grid", "int4", "--fallback", "int8", "-o", "x"})), 64,
              {"--fallback: int8 not in {f32,f16,bf16}"});
  expect_exit(quantize(with_statistics({"--grid", "int4"})), 64, {"-o OUT is required (or --dry-run)"});
}

TEST(Quantize, RefusesStatisticsThatAreMissingOrOfAnotherModel) {
  const Workplace place;
  expect_tool_refuses("adze-quantize", on_demo({"--grid", "int4"}), 64,
                      {"solver gptq needs statistics", "give --stats, a folder that adze calibrate makes"});
  expect_tool_refuses("adze-quantize", on_demo({"--grid", "int4", "--stats", "nowhere"}), 66,
                      {"nowhere: does not exist"});
  expect_tool_refuses("adze-quantize", on_demo({"--grid", "int4", "--stats", demo_model().string()}), 65,
                      {"is no folder of statistics"});
  expect_tool_refuses("adze-quantize", {"nowhere", "--grid", "int4", "--stats", demo_statistics()}, 66,
                      {"nowhere: does not exist"});
  fs::path other = place.model_with_config("\"num_attention_heads\": 4", "\"num_attention_heads\": 8");
  for (const auto& [from, to] : {std::pair{"\"num_key_value_heads\": 2", "\"num_key_value_heads\": 4"},
                                 std::pair{"\"head_dim\": 64", "\"head_dim\": 32"}})
    Workplace::overwrite(other / "config.json", replaced(read_file(other / "config.json"), from, to));
  expect_tool_refuses("adze-quantize", {other.string(), "--grid", "int4", "--stats", demo_statistics()}, 65,
                      {"statistics of another model (demo-llama): heads is 4, the model's is 8"});
}

TEST(Quantize, RefusesStatisticsOfAnotherFamily) {
  const Workplace place;
  const fs::path other = place.model_with_config("LlamaForCausalLM", "MistralForCausalLM");
  expect_tool_refuses("adze-quantize", {other.string(), "--grid", "int4", "--stats", demo_statistics()}, 65,
                      {"statistics of the family LlamaForCausalLM (demo-llama), the model's is MistralForCausalLM"});
}

TEST(Quantize, RefusesDamagedStatisticsHalfWayAndLeavesNothing) {
  const Workplace place;
  const fs::path damaged = place / "damaged";
  fs::copy(demo_statistics(), damaged);
  std::string bytes = read_file(damaged / "block-0003.h5");
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  Workplace::overwrite(damaged / "block-0003.h5", bytes);
  const ProgramResult result =
      quantize(on_demo({"--grid", "gguf/q4_0", "--stats", damaged.string(), "-o", place.out()}));
  expect_exit(result, 65, {"block 3", "block-0003.h5"});
  expect_no_output(place);
}

TEST(Quantize, ReplacesARunOnlyWhenAskedAndAForeignFolderNever) {
  const Workplace place;
  const Arguments first = on_demo({"--grid", "int8", "--solver", "rtn", "-o", place.out()});
  const Arguments second = on_demo({"--grid", "int4", "--solver", "rtn", "-o", place.out() + "/"});
  expect_exit(quantize(first), 0);
  const auto files = result_files(place.out());
  for (const Arguments& more : {Arguments{}, Arguments{"--dry-run"}})
    expect_exit(quantize(joined(second, more)), 73, {"/out/: exists; choose another -o", "--overwrite"});
  expect_same_files(result_files(place.out()), files);
  expect_exit(quantize(joined(second, {"--overwrite"})), 0);
  EXPECT_EQ(Json::parse(read_file(fs::path(place.out()) / "manifest.json")).at("/scheme/format"_json_pointer),
            "int4 g128 sym");
  place.put("out/letter.txt", "mine");
  expect_exit(quantize(joined(first, {"--overwrite"})), 73, {"holds 'letter.txt', which no run made"});
  EXPECT_EQ(read_file(place / "out/letter.txt"), "mine");
  EXPECT_FALSE(fs::exists(place.out() + ".tmp"));
}

TEST(Quantize, StoppedItLeavesNothingAndKilledItIsCleanedUpByTheNextRun) {
  const Workplace place;
  const Arguments scheme = with_statistics({"--grid", "gguf/q4_k", "-o", place.out()});
  ProgramOptions options;
  options.interruption = Interruption{SIGINT, when_exists(place.out() + ".tmp/store/block-0001.h5")};
  expect_exit(quantize(scheme, options), 75, {"stopped; run the same command again\n"});
  expect_no_output(place);
  options.interruption->signal = SIGKILL;
  ASSERT_EQ(quantize(scheme, options).exit_code, -SIGKILL) << "it was done before it could be killed";
  EXPECT_FALSE(fs::exists(place.out()));
  EXPECT_TRUE(fs::exists(place.out() + ".tmp"));
  expect_exit(quantize(scheme), 0);
  EXPECT_FALSE(fs::exists(place.out() + ".tmp"));
  expect_exit(run_program("adze-inspect", {place.out(), "--verify"}), 0);
}

}  // namespace
}  // namespace adze::testing
