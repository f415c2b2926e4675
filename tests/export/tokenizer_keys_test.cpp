// The tokenizer keys of a GGUF file.
#include "export/gguf/tokenizer_keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/gguf_writer.h"
#include "export/export_testing.h"

namespace adze {
namespace {

using namespace testing;
using ::testing::ElementsAre;
using Json = nlohmann::json;

/// Four letters, a merge, a special and a plain added token, and a gap.
Vocabulary small_vocabulary() {
  Vocabulary v;
  v.tokens = {{"a", TokenKind::normal},
              {"b", TokenKind::normal},
              {"ab", TokenKind::normal},
              {"<|begin|>", TokenKind::control},
              {"<|end|>", TokenKind::user_defined},
              {"", TokenKind::unused},
              {"PHONE", TokenKind::user_defined}};
  v.merges = {{"a", "b"}};
  v.split = SplitFamily::llama3;
  v.ignore_merges = true;
  return v;
}

FolderSettings small_settings() {
  FolderSettings s;
  s.tokenizer_config = Json::parse(R"({"bos_token": "<|begin|>", "eos_token": {"content": "<|end|>"}})");
  return s;
}

std::vector<GgufKeyValue> keys(const Vocabulary& vocabulary = small_vocabulary(),
                               const FolderSettings& settings = small_settings(), std::size_t rows = 8) {
  return tokenizer_metadata(vocabulary, rows, settings);
}

/// The value of a key, which must have the type T; nothing when absent.
template <typename T>
std::optional<T> value(const std::vector<GgufKeyValue>& all, std::string_view key) {
  const auto at = std::ranges::find(all, key, &GgufKeyValue::key);
  return at == all.end() ? std::nullopt : std::optional(std::get<T>(at->value));
}
std::optional<std::uint32_t> id(const std::vector<GgufKeyValue>& all, const std::string& role) {
  return value<std::uint32_t>(all, "tokenizer.ggml." + role + "_token_id");
}

TEST(TokenizerKeys, ListTokensTypesAndMergesAndFillUpToTheEmbedding) {
  const auto all = keys();
  EXPECT_EQ(value<std::string>(all, "tokenizer.ggml.model"), "gpt2");
  EXPECT_EQ(value<std::string>(all, "tokenizer.ggml.pre"), "llama-bpe");
  EXPECT_THAT(*value<std::vector<std::string>>(all, "tokenizer.ggml.tokens"),
              ElementsAre("a", "b", "ab", "<|begin|>", "<|end|>", "[PAD5]", "PHONE", "[PAD7]"));
  EXPECT_THAT(*value<std::vector<std::int32_t>>(all, "tokenizer.ggml.token_type"),
              ElementsAre(1, 1, 1, 3, 3, 5, 4, 5));  // "<|end|>" looks special
  EXPECT_THAT(*value<std::vector<std::string>>(all, "tokenizer.ggml.merges"), ElementsAre("a b"));
}

TEST(TokenizerKeys, TakeSpecialTokensFromTheTokenizerConfigFirst) {
  FolderSettings settings = small_settings();
  settings.config = Json::parse(R"({"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 6})");
  settings.generation_config = Json::parse(R"({"unk_token_id": 1})");
  const auto all = keys(small_vocabulary(), settings);
  EXPECT_EQ(id(all, "bos"), 3u);
  EXPECT_EQ(id(all, "eos"), 4u);
  EXPECT_EQ(id(all, "padding"), 6u);
  EXPECT_EQ(id(all, "unknown"), 1u);
  EXPECT_EQ(id(all, "eot"), std::nullopt);
}

TEST(TokenizerKeys, TakeIdsFromTheOtherFilesGenerationConfigFirstAndTheFirstOfAList) {
  FolderSettings settings;
  settings.generation_config = Json::parse(R"({"eos_token_id": [4, 3]})");
  settings.config = Json::parse(R"({"bos_token_id": 3, "eos_token_id": 6})");
  const auto all = keys(small_vocabulary(), settings);
  EXPECT_EQ(id(all, "bos"), 3u);
  EXPECT_EQ(id(all, "eos"), 4u);
}

TEST(TokenizerKeys, FindTheEndOfTurn) {
  Vocabulary vocabulary = small_vocabulary();
  vocabulary.tokens[6] = {"<|eot_id|>", TokenKind::control};
  EXPECT_EQ(id(keys(vocabulary), "eot"), 6u);
  vocabulary.tokens[6].kind = TokenKind::normal;
  EXPECT_EQ(id(keys(vocabulary), "eot"), std::nullopt);
}

TEST(TokenizerKeys, WriteTheSpecialIdsThatAGgufHad) {
  FolderSettings settings = small_settings();
  settings.gguf_keys = Json::parse(R"({"tokenizer.ggml.fim_pre_token_id": 2, "tokenizer.ggml.eot_token_id": 0,
                                       "tokenizer.ggml.eom_token_id": 7, "general.name": "x"})");
  Vocabulary vocabulary = small_vocabulary();
  vocabulary.tokens[6] = {"<|eot_id|>", TokenKind::control};
  const auto all = keys(vocabulary, settings);
  EXPECT_EQ(id(all, "fim_pre"), 2u);
  EXPECT_EQ(id(all, "eom"), 7u);
  EXPECT_EQ(id(all, "eot"), 0u);  // what the file said, not what the text suggests
  EXPECT_EQ(std::ranges::count(all, "tokenizer.ggml.eot_token_id", &GgufKeyValue::key), 1);
  EXPECT_EQ(value<std::string>(all, "general.name"), std::nullopt);
  for (const Json& bad : {Json(8), Json(-1), Json("2"), Json(1.5), Json(nullptr)}) {
    settings.gguf_keys["tokenizer.ggml.eom_token_id"] = bad;
    expect_error(ErrorKind::bad_data, "gguf.json: tokenizer.ggml.eom_token_id is " + bad.dump(),
                 [&] { keys(vocabulary, settings); });
  }
}

TEST(TokenizerKeys, WithoutABeginningUseTheEndSoThatRuntimesDoNotInventOne) {
  FolderSettings settings;
  settings.config = Json::parse(R"({"eos_token_id": 4})");
  const auto all = keys(small_vocabulary(), settings);
  EXPECT_EQ(id(all, "bos"), 4u);
  EXPECT_EQ(value<bool>(all, "tokenizer.ggml.add_bos_token"), false);
}

TEST(TokenizerKeys, SayWhatGoesAroundAText) {
  Vocabulary vocabulary = small_vocabulary();
  EXPECT_EQ(value<bool>(keys(vocabulary), "tokenizer.ggml.add_bos_token"), false);
  vocabulary.prefix_ids = {3};
  vocabulary.suffix_ids = {4};
  EXPECT_EQ(value<bool>(keys(vocabulary), "tokenizer.ggml.add_bos_token"), true);
  EXPECT_EQ(value<bool>(keys(vocabulary), "tokenizer.ggml.add_eos_token"), true);
  FolderSettings settings = small_settings();
  settings.tokenizer_config["add_bos_token"] = false;
  EXPECT_EQ(value<bool>(keys(vocabulary, settings), "tokenizer.ggml.add_bos_token"), false);
  vocabulary.prefix_ids = {0, 1};
  expect_error(ErrorKind::bad_data, "puts 2 token(s) around a text, the first with id 0; GGUF can only put the bos",
               [&] { keys(vocabulary); });
}

TEST(TokenizerKeys, KeepTheChatTemplate) {
  FolderSettings settings = small_settings();
  EXPECT_EQ(value<std::string>(keys(small_vocabulary(), settings), "tokenizer.chat_template"), std::nullopt);
  settings.tokenizer_config["chat_template"] = "{{ a }}";
  EXPECT_EQ(value<std::string>(keys(small_vocabulary(), settings), "tokenizer.chat_template"), "{{ a }}");
  settings.chat_template = "{{ from file }}";
  EXPECT_EQ(value<std::string>(keys(small_vocabulary(), settings), "tokenizer.chat_template"), "{{ from file }}");
}

TEST(TokenizerKeys, KeepNamedChatTemplates) {
  FolderSettings settings = small_settings();
  settings.tokenizer_config["chat_template"] =
      Json::parse(R"([{"name": "default", "template": "{{ d }}"}, {"name": "Tool use", "template": "{{ t }}"}])");
  const auto all = keys(small_vocabulary(), settings);
  EXPECT_EQ(value<std::string>(all, "tokenizer.chat_template"), "{{ d }}");
  EXPECT_EQ(value<std::string>(all, "tokenizer.chat_template.tool_use"), "{{ t }}");
  EXPECT_THAT(*value<std::vector<std::string>>(all, "tokenizer.chat_templates"), ElementsAre("tool_use"));
  EXPECT_NO_THROW(predict_gguf_bytes(all, {}));  // valid keys
}

TEST(TokenizerKeys, RefuseWhatARuntimeWouldReadWrongly) {
  struct Case {
    std::string words;
    std::function<void(Vocabulary&, FolderSettings&)> spoil;
  };
  const std::vector<Case> cases = {
      {"tokens 0 and 1 have the same text 'a'", [](auto& v, auto&) { v.tokens[1].text = "a"; }},
      {"tokens 2 and 5 have the same text '[PAD5]'", [](auto& v, auto&) { v.tokens[2].text = "[PAD5]"; }},
      {"token 1 has no text", [](auto& v, auto&) { v.tokens[1].text = ""; }},
      {"ids up to 8, but the embedding has 8 rows", [](auto& v, auto&) { v.tokens.resize(9); }},
      {"family 'other'", [](auto& v, auto&) { v.split = SplitFamily::other; }},
      {"puts a space before every text", [](auto& v, auto&) { v.adds_prefix_space = true; }},
      {"merge 'a ' + 'b' has a plain space", [](auto& v, auto&) { v.merges[0].first = "a "; }},
      {"no end-of-text token", [](auto&, auto& s) { s.tokenizer_config.erase("eos_token"); }},
      {"config.json: pad_token_id 8 is outside the vocabulary of 8",
       [](auto&, auto& s) { s.config["pad_token_id"] = 8; }},
      {"'eos_token' must be a text", [](auto&, auto& s) { s.tokenizer_config["eos_token"] = 4; }},
      {"'chat_template' must be a text or a list", [](auto&, auto& s) { s.tokenizer_config["chat_template"] = 4; }},
  };
  EXPECT_NO_THROW(keys());
  for (const Case& c : cases) {
    Vocabulary vocabulary = small_vocabulary();
    FolderSettings settings = small_settings();
    c.spoil(vocabulary, settings);
    expect_error(ErrorKind::bad_data, c.words, [&] { keys(vocabulary, settings); });
  }
}

TEST(FolderSettings, AreReadFromTheFilesThatAreThere) {
  const std::vector<StoreFile> files = {{"config.json", R"({"a": 1})"}, {"chat_template.jinja", "{{ x }}"}};
  const FolderSettings settings = FolderSettings::from(files);
  EXPECT_EQ(settings.config["a"], 1);
  EXPECT_EQ(settings.chat_template, "{{ x }}");
  EXPECT_TRUE(settings.tokenizer_config.empty());
  const std::vector<StoreFile> bad = {{"tokenizer_config.json", "[1]"}};
  expect_error(ErrorKind::bad_data, "tokenizer_config.json: not a JSON object", [&] { FolderSettings::from(bad); });
}

}  // namespace
}  // namespace adze
