// adze-eval on one model and two, with and without a reference, on a checkpoint and on GGUF; and what it refuses.
#include <nlohmann/json.hpp>

#include "tools/tools_testing.h"

namespace adze::testing {
namespace {

using Json = nlohmann::json;

/// A short text, and the demo as a GGUF file in Q8_0.
class EvalPlace : public Workplace {
 public:
  std::string text = put("text.txt", read_file(bundled_text("heldout/code.txt")).substr(0, 3000)).string();
  std::string model_path = demo_model().string();

  std::string gguf() const {
    const std::string file = (path() / "demo.gguf").string();
    expect_exit(run_program("adze-export", {model_path, "-o", file}), 0);
    return file;
  }
  ProgramResult judge(std::vector<std::string> arguments) const {
    arguments.insert(arguments.end(), {"--text", text, "--protocol", "lcpp-128"});
    return run_program("adze-eval", std::move(arguments));
  }
  Json judge_json(std::vector<std::string> arguments) const {
    arguments.emplace_back("--json");
    const ProgramResult result = judge(std::move(arguments));
    expect_exit(result, 0);
    return Json::parse(result.out);
  }
};

TEST(Eval, OfOneModelWithoutAReferenceGivesPerplexityAndSize) {
  const EvalPlace place;
  const Json json = place.judge_json({place.model_path});
  ASSERT_TRUE(json.is_object());
  EXPECT_EQ(json.at("model"), place.model_path);
  EXPECT_EQ(json.at("protocol"), "lcpp-128");
  EXPECT_GT(json.at("perplexity").get<double>(), 1);
  EXPECT_LT(json.at("perplexity").get<double>(), 1000);
  EXPECT_EQ(json.at("bytes"), 11547648);  // bf16 matrices, norms in f32
  EXPECT_NEAR(json.at("bits_per_weight").get<double>(), 16, 0.1);
  EXPECT_FALSE(json.contains("kl_mean"));
}

TEST(Eval, AModelIsAtNoDistanceFromItself) {
  const EvalPlace place;
  const Json json = place.judge_json({place.model_path, "--reference", place.model_path});
  EXPECT_NEAR(json.at("kl_mean").get<double>(), 0, 1e-9);
  EXPECT_NEAR(json.at("kl_median").get<double>(), 0, 1e-9);
  EXPECT_EQ(json.at("same_top"), 1);
  EXPECT_EQ(json.at("perplexity"), json.at("perplexity_base"));
}

TEST(Eval, OfTwoModelsGivesBothInTheOrderTheyWereNamed) {
  const EvalPlace place;
  expect_exit(compress(place.recipe(rtn_recipe()), demo_model(), place.out()), 0);
  const Json json = place.judge_json({place.out(), place.model_path, "--reference", place.model_path});
  ASSERT_EQ(json.size(), 2u);
  EXPECT_EQ(json[0].at("model"), place.out());
  EXPECT_EQ(json[1].at("model"), place.model_path);
  for (const char* const key : {"perplexity", "kl_mean", "kl_median", "same_top", "bits_per_weight", "bytes"})
    for (const Json& model : json) EXPECT_TRUE(model.at(key).is_number()) << key;
  EXPECT_GT(json[0].at("kl_mean").get<double>(), 1e-4);
  EXPECT_LT(json[0].at("same_top").get<double>(), 1);
  EXPECT_LT(json[0].at("bytes"), json[1].at("bytes"));
  EXPECT_EQ(json[0].at("perplexity_base"), json[1].at("perplexity"));
  const Json alone = place.judge_json({place.out(), place.model_path});
  EXPECT_EQ(alone.at(0).at("perplexity"), json[0].at("perplexity"));
}

TEST(Eval, PrintsATable) {
  const EvalPlace place;
  const ProgramResult result = place.judge({place.model_path, "--reference", place.model_path});
  expect_exit(result, 0);
  for (const std::string& words : {place.text + ", protocol lcpp-128: ", place.model_path, std::string("perplexity"),
                                   std::string("mean KL"), std::string("11547648")})
    EXPECT_THAT(result.out, ::testing::HasSubstr(words));
}

TEST(Eval, OfAGgufFileReadsItsOwnTokenizer) {
  const EvalPlace place;
  const std::string gguf = place.gguf();
  const double alone = place.judge_json({gguf}).at("perplexity").get<double>();
  const Json given = place.judge_json({gguf, "--tokenizer", (demo_model() / "tokenizer.json").string()});
  EXPECT_EQ(given.at("perplexity").get<double>(), alone);
  EXPECT_NEAR(alone, place.judge_json({place.model_path}).at("perplexity").get<double>(), 1e-6);
  expect_exit(place.judge({gguf, "--reference", place.model_path}), 0);
}

TEST(Eval, OfAGgufFileWhoseTokenizerCannotBeReproducedNeedsAnother) {
  const EvalPlace place;
  std::string bytes = read_file(place.gguf());
  const std::string gguf = place.put("odd.gguf", replaced(bytes, "gpt2", "rwkv")).string();
  expect_exit(place.judge({gguf}), 64, {"no model given has a tokenizer.json", "--tokenizer FILE"});
  expect_exit(place.judge({gguf, "--tokenizer", (demo_model() / "tokenizer.json").string()}), 0);
}

TEST(Eval, RefusesModelsOfAnotherVocabulary) {
  const EvalPlace place;
  const fs::path other = place.model();
  std::string tokenizer = read_file(other / "tokenizer.json");
  for (std::size_t at = 0; (at = tokenizer.find("<|bos|>", at)) != std::string::npos;)
    tokenizer.replace(at, 7, "<|xos|>");
  Workplace::overwrite(other / "tokenizer.json", tokenizer);
  const std::initializer_list<std::string_view> words{"its vocabulary differs from that of ", "at id "};
  expect_exit(place.judge({other.string(), "--reference", place.model_path}), 65, words);
  expect_exit(place.judge({place.model_path, other.string()}), 65, words);
  const std::string file = (demo_model() / "tokenizer.json").string();
  expect_exit(place.judge({other.string(), "--tokenizer", file}), 65, words);
}

/// What a person may do to a manifest.
TEST(Export, NamesWhatIsMissingInADamagedManifest) {
  const EvalPlace place;
  expect_exit(compress(place.recipe(rtn_recipe()), demo_model(), place.out()), 0);
  const fs::path path = fs::path(place.out()) / "manifest.json";
  const Json whole = Json::parse(read_file(path));
  const auto expect_export_refused = [&](const Json& manifest, std::string_view key) {
    Workplace::overwrite(path, manifest.dump());
    expect_exit(run_program("adze-export", {place.out(), "-o", (place / "x.gguf").string()}), 65,
                {"/out/manifest.json: ", key});
    EXPECT_FALSE(fs::exists(place / "x.gguf"));
  };
  for (const auto& [section, key] : {std::pair{"model", "name"}, {"recipe", "hash"}, {"calibration", "hash"}}) {
    const std::string name = fmt::format("'{}.{}' is missing or no text", section, key);
    Json damaged = whole;
    damaged[section].erase(key);
    expect_export_refused(damaged, name);
    damaged[section] = Json::array({1});
    expect_export_refused(damaged, name);
    damaged.erase(section);
    expect_export_refused(damaged, name);
  }
  expect_export_refused(Json::array(), "'model.name' is missing");
}

}  // namespace
}  // namespace adze::testing
