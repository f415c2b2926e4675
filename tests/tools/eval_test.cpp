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

TEST(Eval, JudgesDomainsOneByOneAndTogether) {
  const EvalPlace place;
  expect_exit(compress(place.recipe(rtn_recipe()), demo_model(), place.out()), 0);
  const std::string prose =
      place.put("prose.txt", read_file(bundled_text("heldout/narrative.txt")).substr(0, 3000)).string();
  const std::vector<std::string> arguments{
      place.out(), "--reference", place.model_path, "--text", "prose=" + prose, "--audit", "3"};
  const Json json = place.judge_json(arguments);
  const Json &domains = json.at("domains"), &text = domains.at("text");
  ASSERT_EQ(domains.size(), 2u);
  EXPECT_EQ(json.at("windows").get<int>(),
            text.at("windows").get<int>() + domains.at("prose").at("windows").get<int>());
  const double a = text.at("kl_mean"), b = domains.at("prose").at("kl_mean"), all = json.at("kl_mean");
  EXPECT_GT(all, std::min(a, b));
  EXPECT_LT(all, std::max(a, b));
  EXPECT_EQ(json.at("worst_domain"), a > b ? "text" : "prose");
  EXPECT_EQ(json.at("audit").at("tokens").size(), 3u);
  EXPECT_EQ(json.at("statistics").at("kl_percentiles").at("100"), json.at("kl_max"));
  const Json alone = place.judge_json({place.out(), "--reference", place.model_path});
  EXPECT_EQ(alone.at("kl_mean"), text.at("kl_mean"));
  EXPECT_FALSE(alone.contains("domains"));
  const ProgramResult table = place.judge(arguments);
  expect_exit(table, 0);
  for (const char* const words : {"worst domain", "prose", "P's choice", "1 % of tokens carry"})
    EXPECT_THAT(table.out, ::testing::HasSubstr(words));
}

TEST(Eval, ComparesCompressedModelsAndNamesWhatBothChange) {
  const EvalPlace place;
  expect_exit(compress(place.recipe(rtn_recipe()), demo_model(), place.out()), 0);
  const std::string coarse = (place / "coarse").string();
  expect_exit(compress(place.recipe(replaced(rtn_recipe(), "gguf/q4_k", "gguf/q2_k")), demo_model(), coarse), 0);
  const Json json = place.judge_json({place.out(), coarse, "--reference", place.model_path});
  const Json& pair = json.at(0).at("comparisons").at(0);
  EXPECT_EQ(pair.at("b"), coarse);
  EXPECT_LT(pair.at("kl").at("difference").get<double>(), 0);
  EXPECT_GT(pair.at("kl").at("a_better").get<double>(), 0.99);
  EXPECT_FALSE(json.at(1).contains("comparisons"));
  EXPECT_EQ(json.at(0).at("population").at("models"), 2);
  EXPECT_GT(json.at(0).at("population").at("exemplars").get<int>(), 0);
  EXPECT_THAT(place.judge({place.out(), coarse, "--reference", place.model_path}).out,
              ::testing::HasSubstr("P(A better)"));
}

TEST(Eval, RoundsActivationsOfTheJudgedModelOnly) {
  const EvalPlace place;
  const std::string gguf = place.gguf();
  const Json exact = place.judge_json({gguf, "--reference", place.model_path});
  const Json rounded = place.judge_json({gguf, "--reference", place.model_path, "--activations", "q8"});
  EXPECT_EQ(rounded.at("activations"), "q8");
  EXPECT_EQ(rounded.at("perplexity_base"), exact.at("perplexity_base"));
  EXPECT_GT(rounded.at("kl_mean").get<double>(), exact.at("kl_mean").get<double>());
}

TEST(Eval, DetailGivesEveryStatisticRanksAndTheWorthOfBos) {
  const EvalPlace place;
  const std::vector<std::string> arguments{place.model_path, "--reference", place.model_path, "--detail"};
  const Json json = place.judge_json(arguments);
  EXPECT_EQ(json.at("statistics").at("effective_rank").at("difference").at("value"), 0);
  EXPECT_GT(json.at("statistics").at("effective_rank").at("erank_hidden").at("value").get<double>(), 1);
  EXPECT_EQ(json.at("bos").at("perplexity_each"), json.at("perplexity"));
  EXPECT_NE(json.at("bos").at("perplexity_first"), json.at("perplexity"));
  const ProgramResult table = place.judge(arguments);
  for (const char* const words : {"tau_10", "overlap", "erank_hidden_change", "BOS in every window", "the same"})
    EXPECT_THAT(table.out, ::testing::HasSubstr(words));
}

TEST(Eval, RefusesWhatCannotBeJudgedNamingIt) {
  const EvalPlace place;
  const std::string tiny = place.put("tiny.txt", "a few words").string();
  const std::string empty = place.put("empty.txt", "").string();
  expect_exit(place.judge({place.model_path, "--text", tiny}), 65,
              {"tiny: the text has ", "lcpp-128 needs at least 128"});
  expect_exit(place.judge({place.model_path, "--text", empty}), 65, {"empty.txt: the text is empty"});
  expect_exit(place.judge({place.model_path, "--text", "text=" + tiny}), 64, {"the domain 'text' is given twice"});
  expect_exit(place.judge({place.model_path, "--activations", "q7"}), 64, {"unknown activations 'q7'"});
  expect_exit(place.judge({place.model_path, "--audit", "-1"}), 64);
}

TEST(Eval, AuditIsSafeForTerminals) {
  const EvalPlace place;
  std::string text;
  for (int i = 0; i < 400; ++i) text += "red \x1b[31m \u202e " + std::to_string(i * i);
  place.put("text.txt", text);
  expect_exit(compress(place.recipe(rtn_recipe()), demo_model(), place.out()), 0);
  const ProgramResult table = place.judge({place.out(), "--reference", place.model_path, "--audit", "40"});
  expect_exit(table, 0);
  EXPECT_EQ(table.out.find('\x1b'), std::string::npos);
  EXPECT_EQ(table.out.find("\u202e"), std::string::npos);
  EXPECT_THAT(table.out, ::testing::HasSubstr("\\x1b"));
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
