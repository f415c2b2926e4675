// Tokenizers out of GGUF metadata: written by hand here, by llama.cpp in the extra files.
#include "model/gguf_tokenizer.h"

#include <cmath>
#include <functional>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "checkpoint/checkpoint_testing.h"
#include "checkpoint/gguf_writer.h"
#include "text/tokenizer.h"

namespace adze {
namespace {

using namespace testing;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Json = nlohmann::json;
using Keys = std::vector<GgufKeyValue>;
using Texts = std::vector<std::string>;
using Types = std::vector<std::int32_t>;

/// Replaces or adds a key.
void set(Keys& keys, std::string_view key, GgufValue value) {
  std::erase_if(keys, [&](const GgufKeyValue& entry) { return entry.key == key; });
  keys.push_back({std::string(key), std::move(value)});
}
void remove(Keys& keys, std::string_view key) {
  std::erase_if(keys, [&](const GgufKeyValue& entry) { return entry.key == key; });
}

/// Letters a, b, the space, a merge, a control and a user-defined token and a filler.
Keys gpt2_keys() {
  return {{"tokenizer.ggml.model", std::string("gpt2")},
          {"tokenizer.ggml.pre", std::string("llama-bpe")},
          {"tokenizer.ggml.tokens", Texts{"a", "b", "Ġ", "ab", "<|begin|>", "<tool>", "[PAD6]"}},
          {"tokenizer.ggml.token_type", Types{1, 1, 1, 1, 3, 4, 5}},
          {"tokenizer.ggml.merges", Texts{"a b"}},
          {"tokenizer.ggml.bos_token_id", std::uint32_t{4}},
          {"tokenizer.ggml.eos_token_id", std::uint32_t{4}}};
}

GgufTokenizerFiles read(const Keys& keys) {
  TempFolder folder;
  GgufWriter(folder / "x.gguf", keys, {}).commit();
  return tokenizer_from_gguf(GgufFile(folder / "x.gguf"));
}

Tokenizer tokenizer_of(const Keys& keys) { return Tokenizer::from_json(read(keys).tokenizer_json, "from GGUF"); }

TEST(GgufTokenizer, ReadsByteLevelVocabularies) {
  const Tokenizer tokenizer = tokenizer_of(gpt2_keys());
  EXPECT_THAT(tokenizer.encode("ab b<|begin|>a<tool>", true), ElementsAre(4, 3, 2, 1, 4, 0, 5));
  EXPECT_EQ(tokenizer.vocabulary().split, SplitFamily::llama3);
  EXPECT_TRUE(tokenizer.vocabulary().ignore_merges);
  EXPECT_THAT(tokenizer.encode("<|begin|>", false, SpecialText::plain), ElementsAre(1));  // the b of "begin"
}

TEST(GgufTokenizer, KeepsTheTokenizerJsonOfTheFile) {
  Keys keys = gpt2_keys();
  const std::string text = read(keys).tokenizer_json + "\n";
  set(keys, "tokenizer.huggingface.json", text);
  EXPECT_EQ(read(keys).tokenizer_json, text);
}

TEST(GgufTokenizer, RefusesATokenizerJsonOfOtherTokens) {
  struct Case {
    std::string words;
    std::function<void(Json&)> change;
  };
  const std::vector<Case> cases = {
      {"token 5 is '<tool>' in tokenizer.ggml.tokens, but '<loot>' in tokenizer.huggingface.json",
       [](Json& root) { root["added_tokens"][1]["content"] = "<loot>"; }},
      {"token 5 is '<tool>' in tokenizer.ggml.tokens, but '' in", [](Json& root) { root["added_tokens"].erase(1); }},
      {"token 0 is 'a' in tokenizer.ggml.tokens, but 'b' in",
       [](Json& root) { std::swap(root["model"]["vocab"]["a"], root["model"]["vocab"]["b"]); }},
      {"token 6 is '[PAD6]' in tokenizer.ggml.tokens, but 'x' in", [](Json& root) { root["model"]["vocab"]["x"] = 6; }},
      {"token 7 is '' in tokenizer.ggml.tokens, but 'x' in", [](Json& root) { root["model"]["vocab"]["x"] = 7; }},
  };
  for (const Case& c : cases) {
    Keys keys = gpt2_keys();
    Json root = Json::parse(read(keys).tokenizer_json);
    c.change(root);
    set(keys, "tokenizer.huggingface.json", root.dump());
    expect_error(ErrorKind::bad_data, c.words, [&] { read(keys); });
  }
}

TEST(GgufTokenizer, StatesSpecialTokensAndChatTemplates) {
  Keys keys = gpt2_keys();
  set(keys, "tokenizer.chat_template", std::string("{{ d }}"));
  set(keys, "tokenizer.ggml.add_eos_token", true);
  Json config = Json::parse(read(keys).tokenizer_config_json);
  EXPECT_EQ(config["bos_token"], "<|begin|>");
  EXPECT_EQ(config["add_bos_token"], true);  // what runtimes do for llama-bpe
  EXPECT_EQ(config["add_eos_token"], true);
  EXPECT_EQ(config["chat_template"], "{{ d }}");
  EXPECT_THAT(tokenizer_of(keys).encode("a", true), ElementsAre(4, 0, 4));
  set(keys, "tokenizer.chat_templates", Texts{"tool"});
  set(keys, "tokenizer.chat_template.tool", std::string("{{ t }}"));
  config = Json::parse(read(keys).tokenizer_config_json);
  EXPECT_EQ(config["chat_template"][0], Json({{"name", "default"}, {"template", "{{ d }}"}}));
  EXPECT_EQ(config["chat_template"][1], Json({{"name", "tool"}, {"template", "{{ t }}"}}));
}

TEST(GgufTokenizer, OfEqualMergesTakesTheFirst) {
  Keys keys = gpt2_keys();
  set(keys, "tokenizer.ggml.tokens", Texts{"a", "b", "Ġ", "ab", "ba", "<|begin|>", "[PAD6]"});
  set(keys, "tokenizer.ggml.token_type", Types{1, 1, 1, 1, 1, 3, 5});
  set(keys, "tokenizer.ggml.bos_token_id", std::uint32_t{5});
  set(keys, "tokenizer.ggml.eos_token_id", std::uint32_t{5});
  set(keys, "tokenizer.ggml.merges", Texts{"a b", "b a", "a b"});
  EXPECT_THAT(tokenizer_of(keys).encode("bab", false), ElementsAre(1, 3));
}

TEST(GgufTokenizer, NamesWhatCannotBeReproduced) {
  struct Case {
    std::string words;
    std::function<void(Keys&)> spoil;
  };
  const auto put = [](std::string key, GgufValue value) { return [=](Keys& keys) { set(keys, key, value); }; };
  const auto drop = [](std::string key) { return [=](Keys& keys) { remove(keys, key); }; };
  const std::vector<Case> cases = {
      {"tokenizer.ggml.model is 'bert', which cannot be reproduced; 'gpt2', 'llama' can",
       put("tokenizer.ggml.model", std::string("bert"))},
      {"key 'tokenizer.ggml.model' is missing", drop("tokenizer.ggml.model")},
      {"tokenizer.ggml.pre is 'viking', whose splitting rules cannot be reproduced; those of these names can: gpt-2, ",
       put("tokenizer.ggml.pre", std::string("viking"))},
      {"tokenizer.ggml.pre is '(missing)'", drop("tokenizer.ggml.pre")},
      {"key 'tokenizer.ggml.tokens' is missing", drop("tokenizer.ggml.tokens")},
      {"key 'tokenizer.ggml.merges' is missing", drop("tokenizer.ggml.merges")},
      {"token_type has 2 entries for 7 tokens", put("tokenizer.ggml.token_type", Types{1, 1})},
      {"token_type[1] is 7; 0 to 6 exist", put("tokenizer.ggml.token_type", Types{1, 7, 1, 1, 3, 4, 5})},
      {"token_type[0] is -1", put("tokenizer.ggml.token_type", Types{-1, 1, 1, 1, 3, 4, 5})},
      {"0 and 3 are both 'a'", put("tokenizer.ggml.tokens", Texts{"a", "b", "Ġ", "a", "<|begin|>", "c", "d"})},
      {"tokens[1] is no UTF-8", put("tokenizer.ggml.tokens", Texts{"a", "\xFF", "Ġ", "ab", "<|begin|>", "c", "d"})},
      {"merges[0]: 'x' is not in the vocabulary", put("tokenizer.ggml.merges", Texts{"a x"})},
      {"merges[0]: 'ba' is not in the vocabulary", put("tokenizer.ggml.merges", Texts{"b a"})},
      {"merges[0] has no space", put("tokenizer.ggml.merges", Texts{"ab"})},
      {"merges[0] has no space", put("tokenizer.ggml.merges", Texts{" ab"})},
      {"merges[0]", put("tokenizer.ggml.merges", Texts{"\xFF b"})},
      {"tokenizer.ggml.bos_token_id is 7, outside the vocabulary of 7",
       put("tokenizer.ggml.bos_token_id", std::uint32_t{7})},
      {"add_eos_token is true",
       [](Keys& keys) {
         remove(keys, "tokenizer.ggml.eos_token_id");
         set(keys, "tokenizer.ggml.add_eos_token", true);
       }},
      {"a chat template has a text that is no UTF-8", put("tokenizer.chat_template", std::string("\xFF"))},
      {"key 'tokenizer.chat_template.tool' is missing", put("tokenizer.chat_templates", Texts{"tool"})},
      {"x.gguf", put("tokenizer.ggml.token_type", Types{1, 1})},
  };
  EXPECT_NO_THROW(read(gpt2_keys()));
  for (const Case& c : cases) {
    Keys keys = gpt2_keys();
    c.spoil(keys);
    expect_error(ErrorKind::bad_data, c.words, [&] { read(keys); });
  }
}

/// SentencePiece: <unk>, <s>, </s>, the bytes, then ▁a (best), ab, a, b, ▁ and a filler.
Keys llama_keys() {
  Texts texts = {"<unk>", "<s>", "</s>"};
  Types types = {2, 3, 3};
  for (int byte = 0; byte < 256; ++byte) {
    texts.push_back(fmt::format("<0x{:02X}>", byte));
    types.push_back(6);
  }
  for (const char* const text : {"▁a", "ab", "a", "b", "▁"}) {
    texts.push_back(text);
    types.push_back(1);
  }
  texts.push_back("[PAD264]");
  types.push_back(5);
  std::vector<float> scores(259, 0.0f);
  for (const float score : {0.f, -1.f, -2.f, -3.f, -4.f, -10000.f}) scores.push_back(score);
  return {{"tokenizer.ggml.model", std::string("llama")},
          {"tokenizer.ggml.tokens", texts},
          {"tokenizer.ggml.token_type", types},
          {"tokenizer.ggml.scores", scores}};
}

TEST(GgufTokenizer, ReadsSentencePieceVocabulariesWithTheDefaultsOfRuntimes) {
  const Tokenizer tokenizer = tokenizer_of(llama_keys());
  EXPECT_THAT(tokenizer.encode("ab</s>ab", true), ElementsAre(1, 259, 262, 2, 259, 262));
  EXPECT_THAT(tokenizer.encode("bab", false), ElementsAre(263, 262, 260));
  EXPECT_THAT(tokenizer.encode("\n", false), ElementsAre(263, 3 + '\n'));
  EXPECT_EQ(tokenizer.decode(std::vector<std::int32_t>{259, 262}), "ab");
  const Json config = Json::parse(read(llama_keys()).tokenizer_config_json);
  EXPECT_EQ(config["bos_token"], "<s>");
  EXPECT_EQ(config["eos_token"], "</s>");
  EXPECT_EQ(config["unk_token"], "<unk>");
  EXPECT_EQ(config["add_bos_token"], true);
  Keys keys = llama_keys();
  set(keys, "tokenizer.ggml.add_space_prefix", false);
  set(keys, "tokenizer.ggml.add_bos_token", false);
  EXPECT_THAT(tokenizer_of(keys).encode("ab ab", true), ElementsAre(260, 259, 262));
}

TEST(GgufTokenizer, RanksPiecesByScore) {
  Keys keys = llama_keys();
  auto& scores = std::get<std::vector<float>>(keys[3].value);
  std::swap(scores[259], scores[260]);
  EXPECT_THAT(tokenizer_of(keys).encode("ab", false), ElementsAre(263, 260));
}

TEST(GgufTokenizer, NamesWhatNoListOfMergesCanSay) {
  struct Case {
    std::string words;
    std::function<void(Texts&, std::vector<float>&)> spoil;
  };
  const std::vector<Case> cases = {
      {"scores has 264 entries for 265 tokens", [](auto&, auto& scores) { scores.pop_back(); }},
      {"have the same score 0", [](auto&, auto& scores) { scores[260] = 0; }},
      {"scores[260] of 'ab' is not finite", [](auto&, auto& scores) { scores[260] = NAN; }},
      {"scores[260] of 'ab' is not finite", [](auto&, auto& scores) { scores[260] = -INFINITY; }},
      {"lacks the byte token '<0x41>'", [](auto& texts, auto&) { texts[3 + 0x41] = "x"; }},
      {"is made of 'a' and 'c', of which one is no piece", [](auto& texts, auto&) { texts[260] = "ac"; }},
      {"tokens[260] has 1048576 bytes; pieces have at most 1024",
       [](auto& texts, auto&) { texts[260] = std::string(1 << 20, 'a'); }},
  };
  EXPECT_NO_THROW(read(llama_keys()));
  for (const Case& c : cases) {
    Keys keys = llama_keys();
    c.spoil(std::get<Texts>(keys[1].value), std::get<std::vector<float>>(keys[3].value));
    expect_error(ErrorKind::bad_data, c.words, [&] { read(keys); });
  }
  Keys keys = llama_keys();
  remove(keys, "tokenizer.ggml.scores");
  expect_error(ErrorKind::bad_data, "key 'tokenizer.ggml.scores' is missing", [&] { read(keys); });
}

TEST(GgufTokenizer, MegabytesOfOneTextCostNoSquares) {
  const std::string long_text(8 << 20, 'a');
  Keys keys = gpt2_keys();
  set(keys, "tokenizer.ggml.tokens", Texts{"a", "b", "Ġ", "ab", "<|begin|>", long_text, long_text + "b"});
  set(keys, "tokenizer.ggml.token_type", Types{1, 1, 1, 1, 3, 1, 1});
  set(keys, "tokenizer.ggml.merges", Texts{"a b", long_text + " b"});
  EXPECT_EQ(tokenizer_of(keys).size(), 7u);
  Texts pieces = std::get<Texts>(llama_keys()[1].value);
  for (std::size_t bytes = 3; bytes <= 1024; ++bytes) pieces.push_back(long_text.substr(0, bytes) + "▁");
  keys = llama_keys();
  std::get<std::vector<float>>(keys[3].value).resize(pieces.size(), -20000.0f);
  std::get<Types>(keys[2].value).resize(pieces.size(), 1);
  set(keys, "tokenizer.ggml.tokens", pieces);
  EXPECT_THROW(read(keys), Error);  // pieces above 1024 bytes; the others are looked at before
}

TEST(GgufTokenizer, NestedPiecesCostNoMoreThanTheLimit) {
  const auto nested = [](std::size_t longest) {
    Keys keys = llama_keys();
    Texts pieces = std::get<Texts>(keys[1].value);
    std::vector<float> scores = std::get<std::vector<float>>(keys[3].value);
    for (std::size_t bytes = 2; bytes <= longest; ++bytes) {
      pieces.push_back(std::string(bytes, 'a'));
      scores.push_back(-10000.0f - static_cast<float>(bytes));
    }
    std::get<Types>(keys[2].value).resize(pieces.size(), 1);
    set(keys, "tokenizer.ggml.tokens", pieces);
    set(keys, "tokenizer.ggml.scores", scores);
    return keys;
  };
  EXPECT_NO_THROW(read(nested(100)));
  expect_error(ErrorKind::bad_data, "the merges take more than 268435456 bytes", [&] { read(nested(1024)); });
}

/// llama.cpp wrote these from the demo checkpoint.
TEST(GgufTokenizer, OfFilesOfLlamaCppGivesTheIdsOfTheCheckpoint) {
  const std::filesystem::path root = ADZE_SOURCE_DIR;
  const std::filesystem::path folder = root / "../shared/peers";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "no folder ../shared/peers beside the sources";
  const Tokenizer original = Tokenizer::from_file(root / "tests/models/demo-llama/tokenizer.json");
  std::size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".gguf") continue;
    ++files;
    const Tokenizer tokenizer =
        Tokenizer::from_json(tokenizer_from_gguf(GgufFile(entry.path())).tokenizer_json, entry.path().string());
    EXPECT_EQ(tokenizer.vocabulary().tokens, original.vocabulary().tokens);
    EXPECT_EQ(tokenizer.vocabulary().prefix_ids, original.vocabulary().prefix_ids);
    for (const auto& text : std::filesystem::directory_iterator(root / "calibration_data/heldout"))
      EXPECT_EQ(tokenizer.encode(read_file(text.path()), true), original.encode(read_file(text.path()), true))
          << entry.path() << " " << text.path();
  }
  EXPECT_GT(files, 0u);
}

}  // namespace
}  // namespace adze
