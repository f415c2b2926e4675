#include "text/tokenizer.h"

#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "text/nfc.h"
#include "text/text_generator.h"
#include "text/tokenizer_fixtures.h"

namespace adze {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::IsEmpty;
using Ids = std::vector<std::int32_t>;

constexpr std::int32_t kStart = 265;

TEST(Tokenizer, EncodesTheCheckedVectors) {
  const Tokenizer toy = test::load(test::toy_json());
  EXPECT_THAT(toy.encode("hello world", true), ElementsAre(kStart, 259, 264));
  EXPECT_THAT(toy.encode("hello  world\n\n x", true), ElementsAre(kStart, 259, 32, 264, 10, 10, 32, 120));
  EXPECT_THAT(toy.encode("hello world", false), ElementsAre(259, 264));
  EXPECT_THAT(toy.encode("", true), ElementsAre(kStart));
  EXPECT_THAT(toy.encode("", false), IsEmpty());
}

TEST(Tokenizer, DecodesWhatItEncoded) {
  const Tokenizer toy = test::load(test::toy_json());
  EXPECT_EQ(toy.decode(Ids{kStart, 259, 264}), "<|start|>hello world");
  EXPECT_EQ(toy.decode(Ids{kStart, 259, 264}, /*skip_special=*/true), "hello world");
  EXPECT_EQ(toy.decode(Ids{-1, 259, 99'999, 266}), "hello");
  EXPECT_EQ(toy.decode(Ids{0xC3}), "\xEF\xBF\xBD");  // half a character
  EXPECT_EQ(toy.decode(Ids{0xC3, 0xA9}), "é");
  EXPECT_EQ(toy.decode({}), "");
}

TEST(Tokenizer, GivesTheBytesOfOneToken) {
  const Tokenizer toy = test::load(test::toy_json());
  EXPECT_EQ(toy.token_bytes(264), " world");
  EXPECT_EQ(toy.token_bytes(0xC3), "\xC3");
  EXPECT_EQ(toy.token_bytes(kStart), "<|start|>");
  EXPECT_EQ(toy.token_bytes(-1), "");
  EXPECT_EQ(toy.token_bytes(266), "");
}

TEST(Tokenizer, DecodingGivesBackWellFormedText) {
  const Tokenizer tokenizer = test::load(test::bundled_json());
  json root = test::bundled_json();
  root["normalizer"] = {{"type", "NFC"}};
  const Tokenizer in_nfc = test::load(root);
  RandomStream random(9, "round trip");
  for (int round = 0; round < 5'000; ++round) {
    const std::string text = test::random_text(random);
    const std::string repaired = replace_invalid_utf8(text);
    ASSERT_EQ(tokenizer.decode(tokenizer.encode(text, false)), repaired);
    // Special tokens cut the text first; what is between them is normalized.
    ASSERT_EQ(to_nfc(in_nfc.decode(in_nfc.encode(text, false))), to_nfc(repaired));
  }
}

TEST(Tokenizer, ReadsIllFormedBytesAsReplacementCharacters) {
  const Tokenizer tokenizer = test::load(test::bundled_json());
  EXPECT_EQ(tokenizer.encode("a\xFF\xE2\x82z", true), tokenizer.encode("a\xEF\xBF\xBD\xEF\xBF\xBDz", true));
}

TEST(Tokenizer, TellsWhatAWriterNeeds) {
  const Tokenizer toy = test::load(test::toy_json());
  const Vocabulary& vocabulary = toy.vocabulary();
  ASSERT_EQ(toy.size(), 266u);
  EXPECT_EQ(vocabulary.tokens[264], (TokenEntry{"Ġworld", TokenKind::normal}));
  EXPECT_EQ(vocabulary.tokens[265], (TokenEntry{"<|start|>", TokenKind::control}));
  EXPECT_EQ(vocabulary.merges.size(), 9u);
  EXPECT_EQ(vocabulary.merges[4], (std::pair<std::string, std::string>("Ġ", "w")));
  EXPECT_EQ(vocabulary.split, SplitFamily::llama3);
  EXPECT_FALSE(vocabulary.ignore_merges);
  EXPECT_FALSE(vocabulary.normalizes_nfc);
  EXPECT_FALSE(vocabulary.adds_prefix_space);
  EXPECT_THAT(vocabulary.prefix_ids, ElementsAre(kStart));
  EXPECT_THAT(vocabulary.suffix_ids, IsEmpty());
}

TEST(Tokenizer, MarksUserTokensAndGaps) {
  json root = test::toy_json();
  root["added_tokens"].push_back(test::added_token(270, "<tool>", false));
  const Vocabulary vocabulary = test::load(root).vocabulary();
  ASSERT_EQ(vocabulary.tokens.size(), 271u);
  EXPECT_EQ(vocabulary.tokens[270], (TokenEntry{"<tool>", TokenKind::user_defined}));
  EXPECT_EQ(vocabulary.tokens[268], (TokenEntry{"", TokenKind::unused}));
}

json with_pre_tokenizer(const json& pre_tokenizer) {
  json root = test::toy_json();
  root["pre_tokenizer"] = pre_tokenizer;
  return root;
}

TEST(Tokenizer, RecognisesSplitFamilies) {
  const json digits = {{"type", "Digits"}, {"individual_digits", true}};
  const json falcon = {{"type", "Digits"}, {"individual_digits", false}};
  const auto sequence = [](const json& parts) { return json{{"type", "Sequence"}, {"pretokenizers", parts}}; };
  const auto split = [](const char* pattern) {
    return json{{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}};
  };
  const json deepseek =
      sequence({split("\\p{N}{1,3}"), split("[一-龥぀-ゟ゠-ヿ]+"),
                split("[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?"
                      "[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"),
                test::byte_level(false)});
  const std::tuple<json, SplitFamily, const char*> cases[] = {
      {test::byte_level(true), SplitFamily::gpt2, "gpt-2"},
      {sequence(json::array({test::byte_level(true)})), SplitFamily::gpt2, "gpt-2"},
      {test::split_then_bytes(split_pattern(SplitFamily::gpt2)), SplitFamily::gpt2, "gpt-2"},
      {test::split_then_bytes(split_pattern(SplitFamily::qwen2)), SplitFamily::qwen2, "qwen2"},
      {test::split_then_bytes(split_pattern(SplitFamily::qwen35)), SplitFamily::qwen35, "qwen35"},
      {test::split_then_bytes(split_pattern(SplitFamily::tekken)), SplitFamily::tekken, "tekken"},
      {test::split_then_bytes(split_pattern(SplitFamily::o200k)), SplitFamily::o200k, "gpt-4o"},
      {test::split_then_bytes(split_pattern(SplitFamily::llama3)), SplitFamily::llama3, "smaug-bpe"},
      {sequence({digits, test::byte_level(true)}), SplitFamily::digits_gpt2, "smollm"},
      {deepseek, SplitFamily::deepseek_v3, "deepseek-v3"},
      {sequence({falcon, test::byte_level(true)}), SplitFamily::other, ""},
      {test::byte_level(false), SplitFamily::other, ""},
      {test::split_then_bytes("\\p{L}+"), SplitFamily::other, ""},
  };
  for (const auto& [pre_tokenizer, family, pre_name] : cases) {
    const Vocabulary vocabulary = test::load(with_pre_tokenizer(pre_tokenizer)).vocabulary();
    EXPECT_EQ(vocabulary.split, family) << pre_tokenizer;
    EXPECT_EQ(gguf_pre_name(vocabulary).value_or(""), pre_name) << pre_tokenizer;
  }
}

TEST(Tokenizer, NamesLlama3ByItsWayWithMerges) {
  json root = test::toy_json();
  root["model"]["ignore_merges"] = true;
  EXPECT_EQ(gguf_pre_name(test::load(root).vocabulary()), "llama-bpe");
}

TEST(Tokenizer, TakesWholeWordsWhenMergesAreIgnored) {
  json root = test::toy_json();
  root["model"]["vocab"]["xyz"] = 266;  // no merge leads there
  EXPECT_THAT(test::load(root).encode("xyz", false), ElementsAre('x', 'y', 'z'));
  root["model"]["ignore_merges"] = true;
  EXPECT_THAT(test::load(root).encode("xyz", false), ElementsAre(266));
}

TEST(Tokenizer, IsolatesDigitsAndJoinsThem) {
  const auto ids = [](bool individual) {
    json root = with_pre_tokenizer(
        {{"type", "Sequence"},
         {"pretokenizers", {{{"type", "Digits"}, {"individual_digits", individual}}, test::byte_level(true)}}});
    root["model"]["vocab"]["12"] = 266;
    root["model"]["merges"].push_back("1 2");
    return test::load(root).encode("a12", false);
  };
  EXPECT_THAT(ids(true), ElementsAre('a', '1', '2'));
  EXPECT_THAT(ids(false), ElementsAre('a', 266));
}

TEST(Tokenizer, PutsASpaceBeforeTextOnRequest) {
  json bytes = test::byte_level(true);
  bytes["add_prefix_space"] = true;
  const Tokenizer tokenizer = test::load(with_pre_tokenizer(bytes));
  EXPECT_TRUE(tokenizer.vocabulary().adds_prefix_space);
  EXPECT_THAT(tokenizer.encode("world", false), ElementsAre(264));
  EXPECT_THAT(tokenizer.encode(" world", false), ElementsAre(264));
  EXPECT_THAT(tokenizer.encode("world<|start|>world", false), ElementsAre(264, kStart, 264));
}

TEST(Tokenizer, AcceptsMergesAsPairsAndSkipsVersionLines) {
  json root = test::toy_json();
  json pairs = json::array();
  for (const json& merge : root["model"]["merges"]) {
    const std::string text = merge;
    pairs.push_back({text.substr(0, text.find(' ')), text.substr(text.find(' ') + 1)});
  }
  root["model"]["merges"] = pairs;
  EXPECT_THAT(test::load(root).encode("hello world", false), ElementsAre(259, 264));
  root = test::toy_json();
  root["model"]["merges"].insert(root["model"]["merges"].begin(), "#version: 0.2");
  EXPECT_THAT(test::load(root).encode("hello world", false), ElementsAre(259, 264));
  EXPECT_EQ(test::load(root).vocabulary().merges.size(), 9u);
}

TEST(Tokenizer, WrapsTextAsEachPostProcessorSays) {
  const json cls_sep = {{"type", "RobertaProcessing"}, {"sep", {"ll", 257}}, {"cls", {"he", 256}}};
  json root = test::toy_json();
  const json start_template = root["post_processor"];
  root["post_processor"] = cls_sep;
  EXPECT_THAT(test::load(root).encode("a", true), ElementsAre(256, 'a', 257));
  root["post_processor"]["type"] = "BertProcessing";
  EXPECT_THAT(test::load(root).encode("a", true), ElementsAre(256, 'a', 257));
  root["post_processor"] = {{"type", "Sequence"}, {"processors", {test::byte_level(true), cls_sep, start_template}}};
  EXPECT_THAT(test::load(root).encode("a", true), ElementsAre(kStart, 256, 'a', 257));
  root["post_processor"] = nullptr;
  EXPECT_THAT(test::load(root).encode("a", true), ElementsAre('a'));
  root["post_processor"] = test::byte_level(true);
  EXPECT_THAT(test::load(root).encode("a", true), ElementsAre('a'));
}

TEST(Tokenizer, TemplatesMayEndTextAndExpandNames) {
  json root = test::toy_json();
  json& processor = root["post_processor"];
  processor["single"].push_back(processor["single"][0]);
  processor["special_tokens"]["<|start|>"]["ids"] = {265, 256};
  EXPECT_THAT(test::load(root).encode("a", true), ElementsAre(265, 256, 'a', 265, 256));
  EXPECT_THAT(test::load(root).vocabulary().suffix_ids, ElementsAre(265, 256));
}

json with_added(json token) {
  json root = test::toy_json();
  root["added_tokens"].push_back(std::move(token));
  return root;
}

TEST(AddedTokens, TakeTheLongestAtTheLeftmostPlace) {
  json root = test::toy_json();
  root["added_tokens"].push_back(test::added_token(266, "<a>", true));
  root["added_tokens"].push_back(test::added_token(267, "<a><b>", true));
  root["added_tokens"].push_back(test::added_token(268, "a><b><c>", true));
  const Tokenizer tokenizer = test::load(root);
  EXPECT_THAT(tokenizer.encode("<a><a><b><c>", false), ElementsAre(266, 267, '<', 'c', '>'));
  EXPECT_THAT(tokenizer.encode("<a", false), ElementsAre('<', 'a'));
}

TEST(AddedTokens, StayTextWhenAskedTo) {
  json root = with_added(test::added_token(266, "<tool>", false));
  const Tokenizer tokenizer = test::load(root);
  EXPECT_THAT(tokenizer.encode("x<|start|>", false), ElementsAre('x', kStart));
  const Ids plain = tokenizer.encode("x<|start|><tool>", false, SpecialText::plain);
  EXPECT_THAT(plain, testing::Not(testing::Contains(kStart)));
  EXPECT_EQ(plain.back(), 266);  // an added token that is not special
  EXPECT_EQ(tokenizer.decode(plain), "x<|start|><tool>");
}

TEST(AddedTokens, SwallowSpacesWhenTheyStrip) {
  json token = test::added_token(266, "<m>", true);
  token["lstrip"] = true;
  EXPECT_THAT(test::load(with_added(token)).encode("a \t\xE3\x80\x80<m> b", false), ElementsAre('a', 266, ' ', 'b'));
  token["rstrip"] = true;
  EXPECT_THAT(test::load(with_added(token)).encode("a <m>\n <m> b", false), ElementsAre('a', 266, 266, 'b'));
}

TEST(AddedTokens, KeepToWholeWordsWhenSingle) {
  json token = test::added_token(266, "abc", false);
  token["single_word"] = true;
  const Tokenizer tokenizer = test::load(with_added(token));
  EXPECT_THAT(tokenizer.encode("abc", false), ElementsAre(266));
  EXPECT_THAT(tokenizer.encode("(abc)", false), ElementsAre('(', 266, ')'));
  EXPECT_THAT(tokenizer.encode("xabc", false), ElementsAre('x', 'a', 'b', 'c'));
  EXPECT_THAT(tokenizer.encode("abcé", false), ElementsAre('a', 'b', 'c', 0xC3, 0xA9));
  EXPECT_THAT(tokenizer.encode("abc_", false), ElementsAre('a', 'b', 'c', '_'));
}

TEST(AddedTokens, AreFoundInNormalizedTextWhenTheySaySo) {
  json token = test::added_token(266, "e\xCC\x81", false);  // not in NFC
  token["normalized"] = true;
  json root = with_added(token);
  root["normalizer"] = {{"type", "Sequence"}, {"normalizers", {{{"type", "NFC"}}}}};
  const Tokenizer tokenizer = test::load(root);
  EXPECT_TRUE(tokenizer.vocabulary().normalizes_nfc);
  EXPECT_THAT(tokenizer.encode("x\xC3\xA9", false), ElementsAre('x', 266));
  EXPECT_THAT(tokenizer.encode("xe\xCC\x81", false), ElementsAre('x', 266));
  root["added_tokens"][1]["normalized"] = false;
  EXPECT_THAT(test::load(root).encode("x\xC3\xA9", false), ElementsAre('x', 0xC3, 0xA9));
}

TEST(AddedTokens, DecodeToTheirContent) {
  const Tokenizer tokenizer = test::load(with_added(test::added_token(266, "Ġé", false)));
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("aĠéb", false)), "aĠéb");
  EXPECT_EQ(tokenizer.token_bytes(266), "Ġé");
}

TEST(AddedTokens, MayBeInTheVocabularyToo) {
  json root = test::toy_json();
  root["model"]["vocab"]["<|start|>"] = 265;
  EXPECT_EQ(test::load(root).vocabulary().tokens[265].kind, TokenKind::control);
}

TEST(Tokenizer, GivesTheSameIdsFromManyThreads) {
  const Tokenizer tokenizer = test::load(test::bundled_json());
  RandomStream random(4, "threads");
  std::string text;
  while (text.size() < 200'000) text += test::random_text(random);
  const Ids expected = tokenizer.encode(text, true);
  std::vector<Ids> found(4);
  std::vector<std::thread> threads;
  for (Ids& ids : found) threads.emplace_back([&tokenizer, &text, &ids] { ids = tokenizer.encode(text, true); });
  for (std::thread& thread : threads) thread.join();
  for (const Ids& ids : found) EXPECT_EQ(ids, expected);
}

TEST(Tokenizer, GivesTheSameIdsForPiecesAsForTheWhole) {
  const Tokenizer tokenizer = test::load(test::bundled_json());
  Ids joined;
  std::string text;
  for (const char* line : {"The first line.\n", "Second, with 42 words.\n", "the first line.\n", "The first line.\n"}) {
    const Ids ids = tokenizer.encode(line, false);
    joined.insert(joined.end(), ids.begin(), ids.end());
    text += line;
  }
  EXPECT_EQ(tokenizer.encode(text, false), joined);  // a line end is a word of its own here
}

/// Each reference window is the special token and then the ids 1001 to 1127 of the text, counted with the special token
/// as 0.
TEST(Tokenizer, ReproducesTheReferenceIdsOfTheDemoModel) {
  const std::string shared = ADZE_SOURCE_DIR "/../shared/";
  if (!std::filesystem::exists(shared + "models/demo-llama"))
    GTEST_SKIP() << "extra: no reference checkpoints beside the source tree";
  const Tokenizer tokenizer = Tokenizer::from_file(shared + "models/demo-llama/tokenizer.json");
  const json reference = parse_json(read_file(shared + "models/demo-llama/reference/ids.json"), "ids.json");
  for (const char* name : {"wiki", "code"}) {
    const Ids expected = reference["windows"][name].get<Ids>();
    const Ids ids = tokenizer.encode(read_file(shared + "corpora/eval/" + name + ".txt"), true);
    ASSERT_EQ(expected.size(), 128u);
    EXPECT_EQ(ids.front(), expected.front());
    EXPECT_THAT(std::vector(ids.begin() + 1001, ids.begin() + 1128),
                ElementsAreArray(expected.begin() + 1, expected.end()))
        << name;
  }
}

}  // namespace
}  // namespace adze
