// tokenizer.json -> GGUF keys -> tokenizer.json: the same ids, the same keys again; and the ids of llama.cpp itself.
#include <functional>

#include <gtest/gtest.h>

#include "checkpoint/gguf_writer.h"
#include "export/gguf/piece_scores.h"
#include "export/gguf/tokenizer_keys.h"
#include "export/llama_cpp.h"
#include "model/gguf_tokenizer.h"
#include "text/character_fixtures.h"
#include "text/text_generator.h"

namespace adze {
namespace {

using namespace testing;
using Json = nlohmann::json;
using Keys = std::vector<GgufKeyValue>;

FolderSettings llama2_settings() {
  FolderSettings settings;
  settings.tokenizer_config = {{"bos_token", "<s>"}, {"eos_token", "</s>"}, {"unk_token", "<unk>"}};
  return settings;
}

/// With two more added tokens and runs of spaces as pieces.
Json llama2_json() {
  std::vector<std::string> pieces = test::small_pieces();
  for (std::string run = test::kMark + test::kMark; run.size() <= 3 * 16; run += test::kMark)
    if (std::ranges::find(pieces, run) == pieces.end()) pieces.push_back(run);
  Json root = test::llama2_json(pieces);
  const int first = static_cast<int>(root["model"]["vocab"].size());
  root["added_tokens"].push_back(test::added_token(first, "<|im_start|>", true));
  root["added_tokens"].push_back(test::added_token(first + 1, "<tool_call>", false));
  return root;
}

Json without_prefix(Json root) {
  root["normalizer"] = root["normalizer"]["normalizers"][1];
  root["decoder"]["decoders"].erase(3);
  return root;
}

std::vector<std::string> texts(std::size_t count) {
  RandomStream random(99, "round trip");
  std::vector<std::string> list = {"", " ", "  ", "\n", "a", " a", "   a  b   c ", "\xE2\x96\x81", "\xE2\x96\x81 x"};
  while (list.size() < count) list.push_back(replace_invalid_utf8(test::random_text(random)));
  for (const char* const name : kTexts) list.push_back(text_of(name));
  return list;
}

struct Files {
  GgufTokenizerFiles files;
  Tokenizer tokenizer;
};
Files through_gguf(const Keys& keys) {
  TempFolder folder;
  GgufWriter(folder / "x.gguf", keys, {}).commit();
  GgufTokenizerFiles files = tokenizer_from_gguf(GgufFile(folder / "x.gguf"));
  Tokenizer tokenizer = Tokenizer::from_json(files.tokenizer_json, "from GGUF");
  return {std::move(files), std::move(tokenizer)};
}

void expect_round_trip(const Tokenizer& tokenizer, const FolderSettings& settings) {
  const std::size_t rows = tokenizer.size() + 3;
  const Keys keys = tokenizer_metadata(tokenizer.vocabulary(), rows, settings);
  const Files back = through_gguf(keys);
  for (const std::string& text : texts(4000)) {
    ASSERT_EQ(back.tokenizer.encode(text, true), tokenizer.encode(text, true)) << text;
    const auto plain = tokenizer.encode(text, false, SpecialText::plain);
    ASSERT_EQ(back.tokenizer.encode(text, false, SpecialText::plain), plain) << text;
    ASSERT_EQ(back.tokenizer.decode(plain), tokenizer.decode(plain)) << text;
  }
  FolderSettings again;
  again.tokenizer_config = Json::parse(back.files.tokenizer_config_json);
  EXPECT_EQ(tokenizer_metadata(back.tokenizer.vocabulary(), rows, again), keys);
}

TEST(TokenizerRoundTrip, KeepsTheBundledTokenizer) {
  expect_round_trip(demo().tokenizer, FolderSettings::from(demo().files));
}

TEST(TokenizerRoundTrip, KeepsEverySplitFamilyThatHasAName) {
  for (const SplitFamily family : {SplitFamily::llama3, SplitFamily::qwen2, SplitFamily::qwen35, SplitFamily::o200k}) {
    Json root = test::bundled_json();
    root["pre_tokenizer"] = test::split_then_bytes(split_pattern(family));
    root["model"]["ignore_merges"] = family == SplitFamily::llama3;
    expect_round_trip(test::load(root), FolderSettings::from(demo().files));
  }
}

TEST(TokenizerRoundTrip, KeepsTheWholePreTokenizerOfAFamily) {
  for (const SplitFamily family :
       {SplitFamily::gpt2, SplitFamily::digits_gpt2, SplitFamily::llama3, SplitFamily::qwen2, SplitFamily::qwen35,
        SplitFamily::tekken, SplitFamily::o200k, SplitFamily::deepseek_v3}) {
    Json root = test::bundled_json();
    root["pre_tokenizer"] = pre_tokenizer_json(family);
    EXPECT_EQ(test::load(root).vocabulary().split, family) << name_of(family);
  }
}

TEST(TokenizerRoundTrip, KeepsLlama2) { expect_round_trip(test::load(llama2_json()), llama2_settings()); }

TEST(TokenizerRoundTrip, KeepsLlama2WithoutPrefix) {
  expect_round_trip(test::load(without_prefix(llama2_json())), llama2_settings());
}

TEST(TokenizerKeys, OfLlama2AreThoseOfSentencePiece) {
  const Tokenizer tokenizer = test::load(test::llama2_json({"ab", "▁ab", "▁▁"}));
  const Keys keys = tokenizer_metadata(tokenizer.vocabulary(), tokenizer.size() + 1, llama2_settings());
  const auto get = [&]<typename T>(std::string_view key, T*) {
    return std::get<T>(std::ranges::find(keys, key, &GgufKeyValue::key)->value);
  };
  EXPECT_EQ(get("tokenizer.ggml.model", static_cast<std::string*>(nullptr)), "llama");
  EXPECT_EQ(get("tokenizer.ggml.pre", static_cast<std::string*>(nullptr)), "default");
  EXPECT_TRUE(get("tokenizer.ggml.add_space_prefix", static_cast<bool*>(nullptr)));
  EXPECT_TRUE(get("tokenizer.ggml.add_bos_token", static_cast<bool*>(nullptr)));
  EXPECT_EQ(get("tokenizer.ggml.unknown_token_id", static_cast<std::uint32_t*>(nullptr)), 0u);
  const auto types = get("tokenizer.ggml.token_type", static_cast<std::vector<std::int32_t>*>(nullptr));
  const auto scores = get("tokenizer.ggml.scores", static_cast<std::vector<float>*>(nullptr));
  ASSERT_EQ(types.size(), 3u + 256 + 3 + 3 + 1);
  EXPECT_EQ(std::vector(types.begin(), types.begin() + 4), (std::vector<std::int32_t>{2, 3, 3, 6}));
  EXPECT_EQ(std::vector(types.end() - 2, types.end()), (std::vector<std::int32_t>{1, 5}));
  EXPECT_EQ(std::vector(scores.begin() + 258, scores.end()),
            (std::vector<float>{0, 0, -1, -2, -3, -4, -5, -10000}));  // a byte, three results, three characters, filler
}

TEST(TokenizerKeys, OfSentencePieceRefuseWhatARuntimeWouldReadWrongly) {
  struct Case {
    std::string words;
    std::function<void(Json&)> spoil;
  };
  const std::vector<Case> cases = {
      {"has ignore_merges", [](Json& root) { root["model"]["ignore_merges"] = true; }},
      {"no byte_fallback with all of", [](Json& root) { root["model"]["byte_fallback"] = false; }},
      {"no byte_fallback with all of", [](Json& root) { root["model"]["vocab"].erase("<0x41>"); }},
      {"leaves spaces as they are", [](Json& root) { root["normalizer"] = nullptr; }},
      {"by rules that GGUF runtimes do not have",
       [](Json& root) {
         root["normalizer"]["normalizers"].push_back({{"type", "NFC"}});
       }},
      {"by rules that GGUF runtimes do not have",
       [](Json& root) {
         root["pre_tokenizer"] = {{"type", "Digits"}};
       }},
      {"token '▁▁' has one inside",
       [](Json& root) {
         root["normalizer"] = nullptr;
         root["pre_tokenizer"] = test::metaspace("always", true);
       }},
      {"does not merge '▁' and 'ab', but '▁ab' is a token",
       [](Json& root) {
         root["model"]["merges"] = {"a b", "▁a b", "▁ a", "▁ ▁"};
       }},
      {"merges that make '▁ab' are not next to each other",
       [](Json& root) {
         root["model"]["merges"] = {"a b", "▁ a", "▁a b", "▁ ▁", "▁ ab"};
       }},
  };
  const Json good = test::llama2_json({"ab", "▁a", "▁ab", "▁▁"});
  const auto keys = [](const Json& root) {
    const Tokenizer tokenizer = test::load(root);
    return tokenizer_metadata(tokenizer.vocabulary(), tokenizer.size(), llama2_settings());
  };
  EXPECT_NO_THROW(keys(good));
  for (const Case& c : cases) {
    Json root = good;
    c.spoil(root);
    expect_error(ErrorKind::bad_data, c.words, [&] { keys(root); });
  }
}

TEST(TokenizerKeys, OfMetaspaceComeWithARemarkWhereARuntimeDiffers) {
  const auto remark = [](const char* scheme) {
    Json root = test::llama2_json({"ab"});
    root["normalizer"] = nullptr;
    root["pre_tokenizer"] = test::metaspace(scheme, false);
    return character_remark(test::load(root).vocabulary());
  };
  EXPECT_EQ(remark("never"), "");
  EXPECT_NE(remark("always"), "");
  EXPECT_NE(remark("first"), "");
  EXPECT_EQ(character_remark(test::load(test::llama2_json({"ab"})).vocabulary()), "");
}

class LlamaCppTokenizer : public LlamaCpp {
 protected:
  /// Exports a small random model with this tokenizer and compares the ids of many texts.
  void expect_agreement(const Json& root, const std::vector<std::string>& all = texts(3000)) {
    const Tokenizer tokenizer = test::load(root);
    Architecture a = rich_architecture();
    a.vocab = tokenizer.size();
    const CheckpointWeights model = random_model(a);
    ExportPlan plan = plan_of(model);
    plan.tokenizer = &tokenizer;
    const std::vector<StoreFile> files = {{"config.json", "{}"},
                                          {"tokenizer_config.json", llama2_settings().tokenizer_config.dump()}};
    plan.files = files;
    find_exporter("gguf")->make()->write(plan, model, folder / "x.gguf", silent_progress());
    folder.put("texts.json", Json(all).dump());
    const Json ids = run("tokenize_all", "x.gguf", quoted(folder / "texts.json"))["ids"];
    const Tokenizer back =
        Tokenizer::from_json(tokenizer_from_gguf(GgufFile(folder / "x.gguf")).tokenizer_json, "back");
    ASSERT_EQ(ids.size(), all.size());
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < all.size(); ++i) {
      const auto theirs = ids[i].get<std::vector<std::int32_t>>();
      // User-defined tokens are matched there even in plain text; with none of them in the text, nothing is special.
      if (all[i].find("<tool_call>") != std::string::npos) continue;
      EXPECT_EQ(back.encode(all[i], false, SpecialText::plain), theirs) << all[i];
      if (tokenizer.encode(all[i], false, SpecialText::plain) != theirs && ++wrong < 5)
        ADD_FAILURE() << Json(all[i]) << "\n"
                      << Json(theirs) << "\n"
                      << Json(tokenizer.encode(all[i], false, SpecialText::plain));
    }
    EXPECT_EQ(wrong, 0u) << "of " << all.size();
  }
};

TEST_F(LlamaCppTokenizer, ReadsTextAsLlama2Does) { expect_agreement(llama2_json()); }

/// Few letters, many overlaps: equal pieces side by side are joined from the left by both.
TEST_F(LlamaCppTokenizer, ReadsPeriodicTextAsLlama2Does) {
  RandomStream random(3, "periodic");
  std::vector<std::string> all;
  while (all.size() < 20'000) {
    std::string text;
    for (std::uint64_t left = random.below(24); left > 0; --left) text += "aab "[random.below(4)];
    all.push_back(std::move(text));
  }
  std::string training;
  for (const std::string& text : all) training += text;
  expect_agreement(test::llama2_json(test::train_pieces(training.substr(0, 20'000), 60)), all);
}

TEST_F(LlamaCppTokenizer, ReadsTextAsLlama2WithoutPrefixDoes) { expect_agreement(without_prefix(llama2_json())); }

}  // namespace
}  // namespace adze
