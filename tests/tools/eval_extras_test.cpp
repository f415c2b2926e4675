// What adze-eval judges without a text: matrices against their limit, multiple choice, bytes and speed.
#include <nlohmann/json.hpp>

#include "tools/tools_testing.h"

namespace adze::testing {
namespace {

using Json = nlohmann::json;

/// Statistics of the demo, and the demo in 4-bit integers.
class ExtrasPlace : public Workplace {
 public:
  std::string model = demo_model().string();

  std::string statistics() const {
    const std::string folder = (path() / "stats").string();
    if (!fs::exists(folder))
      expect_exit(run_program("adze-calibrate", {model, "--set", bundled_text("calib/narrative.txt"), "--windows", "4",
                                                 "--tokens", "128", "-o", folder}),
                  0);
    return folder;
  }
  std::string quantized(const std::string& grid, const std::string& solver = "rtn") const {
    std::string folder = (path() / (grid + "-" + solver)).string();
    expect_exit(run_program("adze-quantize", {model, "--grid", grid, "--group", "64", "--solver", solver, "--stats",
                                              statistics(), "-o", folder}),
                0);
    return folder;
  }
  static Json eval_json(std::vector<std::string> arguments) {
    arguments.emplace_back("--json");
    const ProgramResult result = run_program("adze-eval", std::move(arguments));
    expect_exit(result, 0);
    return Json::parse(result.out);
  }
};

TEST(EvalLayers, GivesEveryMatrixItsDistanceFromTheLimit) {
  const ExtrasPlace place;
  const std::string out = place.quantized("int4");
  const Json json = ExtrasPlace::eval_json({out, "--reference", place.model, "--layers", place.statistics()});
  EXPECT_EQ(json.at("model"), out);
  EXPECT_FALSE(json.contains("perplexity"));
  const Json& layers = json.at("layers");
  ASSERT_EQ(layers.size(), 6u * 7 + 1);
  EXPECT_EQ(layers[0].at("matrix"), "layers.0.self_attn.q_proj");
  for (const Json& layer : layers) {
    if (layer.at("matrix") == "lm_head") {
      EXPECT_EQ(layer.at("loss"), 0);
      EXPECT_TRUE(layer.at("bits_above_limit").is_null());
      continue;
    }
    EXPECT_DOUBLE_EQ(layer.at("bits_per_weight").get<double>(), 4.25);
    EXPECT_GT(layer.at("bits_above_limit").get<double>(), 0.3);
    EXPECT_LT(layer.at("bits_above_limit").get<double>(), 4.25);
    EXPECT_GT(layer.at("loss_factor").get<double>(), 1);
    EXPECT_GE(layer.at("limit_bits").get<double>() + 0.05, layer.at("structured_limit_bits").get<double>());
    EXPECT_EQ(layer.at("worse_than_nothing"), false);
  }
}

TEST(EvalLayers, SeesThatErrorFeedbackComesNearer) {
  const ExtrasPlace place;
  const Json json = ExtrasPlace::eval_json({place.quantized("int3"), place.quantized("int3", "gptq"), "--reference",
                                            place.model, "--layers", place.statistics()});
  ASSERT_EQ(json.size(), 2u);
  for (std::size_t m = 0; m < 42; ++m)
    EXPECT_LT(json[1].at("layers")[m].at("bits_above_limit"), json[0].at("layers")[m].at("bits_above_limit")) << m;
}

TEST(EvalLayers, PrintsATableBesideTheJudgementOfAText) {
  const ExtrasPlace place;
  const std::string text = place.put("text.txt", read_file(bundled_text("heldout/code.txt")).substr(0, 3000)).string();
  const ProgramResult result =
      run_program("adze-eval", {place.quantized("int4"), "--reference", place.model, "--layers", place.statistics(),
                                "--text", text, "--protocol", "lcpp-128"});
  expect_exit(result, 0);
  for (const char* const words : {"perplexity", "above limit", "layers.5.mlp.down_proj", "all that lost anything"})
    EXPECT_THAT(result.out, ::testing::HasSubstr(words));
}

TEST(EvalLayers, NeedsTheOriginalAndItsStatistics) {
  const ExtrasPlace place;
  expect_exit(run_program("adze-eval", {place.model, "--layers", place.statistics()}), 64, {"--reference"});
  expect_exit(run_program("adze-eval", {place.model}), 64, {"--text", "--layers"});
  expect_exit(run_program("adze-eval", {place.model, "--reference", place.model, "--layers", "no-such-folder"}), 66,
              {"no-such-folder"});
}

TEST(EvalChoices, CountsAnswersAndFlips) {
  const ExtrasPlace place;
  const std::string questions = (fs::path(ADZE_SOURCE_DIR) / "calibration_data/choices.jsonl").string();
  const Json json = ExtrasPlace::eval_json(
      {place.quantized("int2"), place.model, "--reference", place.model, "--choices", questions});
  for (const char* const rule : {"sum", "per_byte"}) {
    const Json &far = json[0].at("choices").at(rule), &same = json[1].at("choices").at(rule);
    EXPECT_EQ(far.at("accuracy_base"), same.at("accuracy"));
    EXPECT_EQ(far.at("right").get<int>() - same.at("right").get<int>(),
              far.at("wrong_to_right").get<int>() - far.at("right_to_wrong").get<int>());
    for (const char* const flip : {"right_to_wrong", "wrong_to_right", "wrong_to_other_wrong"})
      EXPECT_EQ(same.at(flip), 0) << flip;
    EXPECT_EQ(same.at("mcnemar_p"), 1);
    EXPECT_GT(same.at("accuracy").get<double>(), 0.4);  // chance: a quarter
  }
  EXPECT_EQ(json[0].at("choices").at("questions"), 16);
}

TEST(EvalChoices, AnswersAlikeWithinLittleMemoryAndPrintsATable) {
  const ExtrasPlace place;
  const std::string questions = (fs::path(ADZE_SOURCE_DIR) / "calibration_data/choices.jsonl").string();
  const std::vector<std::string> arguments = {place.model, "--reference", place.model, "--choices", questions};
  const ProgramResult all = run_program("adze-eval", arguments);
  expect_exit(all, 0);
  for (const char* const words : {"16 questions", "accuracy %", "per byte", "McNemar p"})
    EXPECT_THAT(all.out, ::testing::HasSubstr(words));
  std::vector<std::string> bounded = arguments;
  bounded.insert(bounded.end(), {"--memory", "100MiB", "--threads", "1"});
  const ProgramResult some = run_program("adze-eval", bounded);
  expect_exit(some, 0);
  EXPECT_EQ(some.out, all.out);
  bounded[bounded.size() - 3] = "1MiB";
  expect_exit(run_program("adze-eval", bounded), 71);
}

TEST(EvalChoices, RefusesABadLineByItsNumber) {
  const ExtrasPlace place;
  const std::string file =
      place.put("bad.jsonl", "{\"question\":\"q\",\"choices\":[\"a\",\"a\"],\"answer\":0}\n").string();
  expect_exit(run_program("adze-eval", {place.model, "--choices", file}), 65,
              {"bad.jsonl:1: choices 0 and 1 are the same"});
}

TEST(EvalSizes, AddUpToTheModel) {
  const ExtrasPlace place;
  const Json json = ExtrasPlace::eval_json({place.quantized("int4"), "--sizes"});
  const Json& sizes = json.at("sizes");
  std::uint64_t bytes = 0;
  for (const char* const name : {"embedding", "attention", "ffn", "head", "norms"})
    bytes += sizes.at(name).at("bytes").get<std::uint64_t>();
  EXPECT_EQ(bytes, json.at("bytes").get<std::uint64_t>());
  EXPECT_DOUBLE_EQ(sizes.at("blocks").at("bits_per_weight").get<double>(), 4.25);
  EXPECT_EQ(sizes.at("cache_bytes_per_token"), 2 * 6 * 128 * 2);
  EXPECT_FALSE(json.contains("latency"));
}

TEST(EvalLatency, IsMeasuredOnlyWhenItIsAskedFor) {
  const ExtrasPlace place;
  const ProgramResult result = run_program("adze-eval", {place.model, "--latency", "--sizes", "--threads", "1"});
  expect_exit(result, 0);
  for (const char* const words :
       {"tokens/s", "1 window on 1 thread", "% of SGEMM", "attention and ffn", "bytes a token"})
    EXPECT_THAT(result.out, ::testing::HasSubstr(words));
}

}  // namespace
}  // namespace adze::testing
