// SentencePiece-style BPE: symbols, prefixes, fallback, decoding, cuts before marks, and what is refused.
#include <chrono>
#include <functional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "text/character_fixtures.h"
#include "text/decoder.h"
#include "text/model.h"
#include "text/space_boundary.h"
#include "text/text_generator.h"

namespace adze {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using Ids = std::vector<std::int32_t>;

constexpr int kFirstByte = 3;

/// ab 259, ▁a 260, ▁ab 261, ▁▁ 262, then characters a 263, b 264, ▁ 265.
json small_json() { return test::llama2_json({"ab", "▁a", "▁ab", "▁▁"}); }

TEST(CharacterBpe, PutsAMarkBeforeEveryPieceAndReadsMissingCharactersAsBytes) {
  const Tokenizer tokenizer = test::load(small_json());
  EXPECT_THAT(tokenizer.encode("ab", true), ElementsAre(1, 261));
  EXPECT_THAT(tokenizer.encode("", true), ElementsAre(1));
  EXPECT_THAT(tokenizer.encode(" ab</s>ab", false), ElementsAre(265, 261, 2, 261));
  EXPECT_THAT(tokenizer.encode("aé", false), ElementsAre(260, kFirstByte + 0xC3, kFirstByte + 0xA9));
  EXPECT_THAT(tokenizer.encode("\n", false), ElementsAre(265, kFirstByte + '\n'));
  EXPECT_EQ(tokenizer.vocabulary().kind, BpeAlphabet::characters);
  EXPECT_EQ(tokenizer.vocabulary().tokens[kFirstByte].kind, TokenKind::byte);
  EXPECT_EQ(tokenizer.vocabulary().characters, (CharacterRules{true, SpacePrefix::always, false, false}));
  EXPECT_EQ(tokenizer.vocabulary().unknown_id, 0);
}

TEST(CharacterBpe, MetaspacePrefixesAsItsSchemeSays) {
  struct Case {
    const char* scheme;
    Ids plain, with_space, after_token;
  };
  const std::vector<Case> cases = {
      {"always", {261}, {261}, {2, 261}}, {"first", {261}, {261}, {2, 259}}, {"never", {259}, {261}, {2, 259}}};
  for (const Case& c : cases) {
    json root = small_json();
    root["normalizer"] = nullptr;
    root["pre_tokenizer"] = test::metaspace(c.scheme, false);
    const Tokenizer tokenizer = test::load(root);
    EXPECT_EQ(tokenizer.encode("ab", false), c.plain) << c.scheme;
    EXPECT_EQ(tokenizer.encode(" ab", false), c.with_space) << c.scheme;
    EXPECT_EQ(tokenizer.encode("</s>ab", false), c.after_token) << c.scheme;
  }
}

TEST(CharacterBpe, MetaspaceThatSplitsKeepsMergesInsideWords) {
  json root = small_json();
  root["normalizer"] = nullptr;
  root["pre_tokenizer"] = test::metaspace("always", true);
  EXPECT_THAT(test::load(root).encode("  ab", false), ElementsAre(265, 261));  // not ▁▁, ab
  root["pre_tokenizer"]["split"] = false;
  EXPECT_THAT(test::load(root).encode("  ab", false), ElementsAre(265, 261));
  EXPECT_THAT(test::load(root).encode("   b", false), ElementsAre(262, 265, 264));
}

TEST(CharacterBpe, DecodesAsTheReferenceDoes) {
  const Tokenizer tokenizer = test::load(small_json());
  EXPECT_EQ(tokenizer.decode(Ids{261, 261}), "ab ab");
  EXPECT_EQ(tokenizer.decode(Ids{1, 261, 2}), "<s> ab</s>");
  EXPECT_EQ(tokenizer.decode(Ids{1, 261, 2}, true), "ab");
  EXPECT_EQ(tokenizer.decode(Ids{263, kFirstByte + 0xC3, kFirstByte + 0xA9}), "aé");
  EXPECT_EQ(tokenizer.decode(Ids{kFirstByte + 0xC3, kFirstByte + 0xC3, 263}), "\uFFFD\uFFFDa");
  EXPECT_EQ(tokenizer.decode(Ids{}), "");
  EXPECT_EQ(tokenizer.token_bytes(261), " ab");
  EXPECT_EQ(tokenizer.token_bytes(kFirstByte + 0xC3), "\xC3");
}

TEST(CharacterBpe, TextSurvivesARoundTrip) {
  const Tokenizer tokenizer = test::load(test::llama2_json(test::small_pieces()));
  RandomStream random(5, "round trip");
  for (int i = 0; i < 3000; ++i) {
    const std::string text = replace_invalid_utf8(test::random_text(random));
    if (text.find(test::kMark) != text.npos) continue;  // a mark in the text comes back as a space
    ASSERT_EQ(tokenizer.decode(tokenizer.encode(text, false, SpecialText::plain)), text);
  }
}

TEST(CharacterBpe, MetaspaceDecoderDropsTheMarksOfTheFirstToken) {
  json root = small_json();
  root["decoder"] = test::metaspace("always", true);
  EXPECT_EQ(test::load(root).decode(Ids{261, 261}), "ab ab");
  root["decoder"] = test::metaspace("never", true);
  EXPECT_EQ(test::load(root).decode(Ids{261, 261}), " ab ab");
}

/// Collects pieces.
struct Collector : PieceSink {
  std::vector<std::string> pieces;
  void take(std::string_view piece) override { pieces.emplace_back(piece); }
};

std::vector<std::string> cut(const json& root, std::string_view text) {
  const auto splitter = make_space_boundary_splitter(parse_bpe_model(root["model"], BpeAlphabet::characters));
  Collector collector;
  if (splitter == nullptr) return {"no cuts"};
  splitter->split(text, collector);
  return collector.pieces;
}

TEST(SpaceBoundary, CutsWhereNoMergeCanCross) {
  EXPECT_THAT(cut(small_json(), "▁ab▁▁▁b▁a"), ElementsAre("▁ab", "▁▁▁b", "▁a"));  // ▁▁ is a piece
  EXPECT_THAT(cut(test::llama2_json({"ab", "b▁", "b▁a"}), "▁ab▁a▁a"), ElementsAre("▁ab▁a", "▁a"));
  EXPECT_THAT(cut(test::llama2_json({"ab"}), ""), ElementsAre());
}

TEST(SpaceBoundary, MakesNoCutsWhereTheyMightMatter) {
  json root = small_json();
  root["model"]["ignore_merges"] = true;
  EXPECT_THAT(cut(root, "▁a▁a"), ElementsAre("no cuts"));
  root = small_json();
  root["model"]["byte_fallback"] = false;
  root["model"]["unk_token"] = nullptr;  // unknown characters vanish: their neighbours could merge
  EXPECT_THAT(cut(root, "▁a▁a"), ElementsAre("no cuts"));
  root = small_json();
  root["model"]["vocab"]["<0xC3>▁"] = 300;
  root["model"]["merges"].push_back(json::array({"<0xC3>", "▁"}));
  EXPECT_THAT(cut(root, "▁a▁a"), ElementsAre("no cuts"));
}

TEST(CharacterBpe, LongTextsAndRunsAreFast) {
  const Tokenizer tokenizer = test::load(test::llama2_json(test::small_pieces()));
  std::string words = read_file(ADZE_SOURCE_DIR "/calibration_data/calib/narrative.txt");
  while (words.size() < (1 << 20)) words += words;
  for (const std::string& text : {words, std::string(1 << 20, ' '), std::string(1 << 20, 'e')}) {
    const auto started = std::chrono::steady_clock::now();
    const Ids ids = tokenizer.encode(text, false);
    EXPECT_LT(std::chrono::steady_clock::now() - started, std::chrono::seconds(20));  // a square would take hours
    EXPECT_EQ(tokenizer.decode(ids), text);
  }
}

TEST(CharacterBpe, RefusesWhatItDoesNotImplement) {
  struct Case {
    const char* pointer;
    json value;
    const char* message;
  };
  const json step = {{"type", "Metaspace"}};
  const std::vector<Case> cases = {
      {"/decoder", nullptr, "decoder is null; a vocabulary of characters needs one"},
      {"/decoder", {{"type", "WordPiece"}}, "decoder type 'WordPiece' is not supported for a vocabulary of characters"},
      {"/decoder/decoders/3/content", "ab", "decoders[3]: 'content' must be one character"},
      {"/decoder/decoders/3/start", -1, "'start' must be an integer from 0 on, not -1"},
      {"/decoder/decoders/0/pattern", {{"Regex", "a"}}, "a regular expression is not supported here"},
      {"/normalizer", {{"type", "NFKC"}}, "normalizer type 'NFKC' is not supported"},
      {"/normalizer/normalizers/0/prepend", 1, "'prepend' must be a string"},
      {"/normalizer/normalizers/1/pattern", {{"String", ""}}, "'String' is empty"},
      {"/normalizer/normalizers/1/pattern", {{"Regex", " +"}}, "a regular expression is not supported here"},
      {"/pre_tokenizer", {{"type", "Whitespace"}}, "type 'Whitespace' is not supported for SentencePiece-style BPE"},
      {"/pre_tokenizer",
       {{"type", "Metaspace"}, {"prepend_scheme", "often"}},
       "pre_tokenizer: unknown prepend_scheme 'often'"},
      {"/pre_tokenizer",
       {{"type", "Metaspace"}, {"prepend_scheme", "first"}, {"add_prefix_space", false}},
       "add_prefix_space is false, but prepend_scheme is 'first'"},
      {"/pre_tokenizer", {{"type", "Metaspace"}, {"replacement", ""}}, "'replacement' is empty"},
      {"/pre_tokenizer",
       {{"type", "Sequence"}, {"pretokenizers", {step, {{"type", "Digits"}}}}},
       "'Digits' after Metaspace is not supported"},
      {"/pre_tokenizer",
       {{"type", "Sequence"}, {"pretokenizers", {{{"type", "Digits"}}, step}}},
       "Metaspace after other steps is not supported"},
  };
  EXPECT_NO_THROW(test::load(small_json()));
  for (const auto& [pointer, value, message] : cases) {
    json root = small_json();
    root[json::json_pointer(pointer)] = value;
    try {
      test::load(root);
      ADD_FAILURE() << pointer << " = " << value << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_data);
      EXPECT_THAT(error.message(), HasSubstr(message));
    }
  }
}

}  // namespace
}  // namespace adze
