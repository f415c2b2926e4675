#include "text/splitter.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "text/oniguruma.h"
#include "text/regex.h"
#include "text/split_family.h"
#include "text/text_generator.h"

namespace adze {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Pieces = std::vector<std::string>;

Pieces pieces_of(const Splitter& splitter, std::string_view text) {
  struct Collector : PieceSink {
    void take(std::string_view piece) override { pieces.emplace_back(piece); }
    Pieces pieces;
  } collector;
  splitter.split(text, collector);
  return collector.pieces;
}

Pieces scan(SplitFamily family, std::string_view text) { return pieces_of(*make_scanner(family), text); }

TEST(Scanner, SplitsAsGpt2) {
  EXPECT_THAT(scan(SplitFamily::gpt2, "Hello  world, it's 2024!"),
              ElementsAre("Hello", " ", " world", ",", " it", "'s", " 2024", "!"));
  EXPECT_THAT(scan(SplitFamily::gpt2, "IT'S\n\n x "), ElementsAre("IT", "'", "S", "\n\n", " x", " "));
}

TEST(Scanner, SplitsAsLlama3) {
  EXPECT_THAT(scan(SplitFamily::llama3, "a  b"), ElementsAre("a", " ", " b"));
  EXPECT_THAT(scan(SplitFamily::llama3, "IT'S 12345\r\n\r\n  x.\n\n(y)"),
              ElementsAre("IT", "'S", " ", "123", "45", "\r\n\r\n", " ", " x", ".\n\n", "(y", ")"));
}

TEST(Scanner, SplitsAsQwen2) {
  EXPECT_THAT(scan(SplitFamily::qwen2, "x=42;"), ElementsAre("x", "=", "4", "2", ";"));
  EXPECT_THAT(scan(SplitFamily::qwen2, "e\xCC\x81t"), ElementsAre("e", "\xCC\x81t"));
}

TEST(Scanner, KeepsMarksWithLettersInQwen35) {
  EXPECT_THAT(scan(SplitFamily::qwen35, "e\xCC\x81t 4"), ElementsAre("e\xCC\x81t", " ", "4"));
}

TEST(Scanner, FoldsTheLongSInContractions) {
  EXPECT_THAT(scan(SplitFamily::llama3, "it'\xC5\xBF"), ElementsAre("it", "'\xC5\xBF"));
  EXPECT_THAT(scan(SplitFamily::gpt2, "it'\xC5\xBF"), ElementsAre("it", "'", "\xC5\xBF"));
}

TEST(Scanner, ExistsForTheCommonFamiliesOnly) {
  EXPECT_EQ(make_scanner(SplitFamily::tekken), nullptr);
  EXPECT_EQ(make_scanner(SplitFamily::other), nullptr);
}

class ScannerAgainstPcre2 : public testing::TestWithParam<SplitFamily> {};

TEST_P(ScannerAgainstPcre2, FindsTheSameWordsInRandomText) {
  const auto scanner = make_scanner(GetParam());
  const auto regex = make_regex_splitter(split_pattern(GetParam()), {});
  RandomStream random(7, name_of(GetParam()));
  const Regex unknown("\\p{Cn}");  // to PCRE2, whose Unicode is older than utf8proc's
  std::size_t compared = 0;
  for (int round = 0; round < 40'000; ++round) {
    const std::string text = replace_invalid_utf8(test::random_text(random));
    if (Regex::Matcher(unknown, text).next()) continue;
    ASSERT_EQ(pieces_of(*scanner, text), pieces_of(*regex, text)) << text;
    ++compared;
  }
  EXPECT_GT(compared, 35'000u);
}

/// All strings of up to five characters over an alphabet with one character for each thing that the patterns tell
/// apart.
TEST_P(ScannerAgainstPcre2, FindsTheSameWordsInAllShortStrings) {
  static constexpr std::array<std::string_view, 14> kAlphabet = {
      "a", "S", "l", "1", " ", "\n", "\r", "'", "!", "\xC2\xA0", "\xCC\x81", "日", "\xC5\xBF", "\xC2\xB2"};
  const auto scanner = make_scanner(GetParam());
  const auto regex = make_regex_splitter(split_pattern(GetParam()), {});
  std::size_t total = 1;
  for (std::size_t length = 0; length <= 4; ++length, total *= kAlphabet.size()) {
    for (std::size_t index = 0; index < total; ++index) {
      std::string text;
      for (std::size_t i = 0, rest = index; i < length; ++i, rest /= kAlphabet.size())
        text += kAlphabet[rest % kAlphabet.size()];
      ASSERT_EQ(pieces_of(*scanner, text), pieces_of(*regex, text)) << testing::PrintToString(text);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, ScannerAgainstPcre2,
                         testing::Values(SplitFamily::gpt2, SplitFamily::llama3, SplitFamily::qwen2,
                                         SplitFamily::qwen35),
                         [](const auto& family) { return std::string(name_of(family.param)); });

TEST(SplitFamily, IsRecognisedWithRawAndWithEscapedNewlines) {
  for (const SplitFamily family : {SplitFamily::gpt2, SplitFamily::llama3, SplitFamily::qwen2, SplitFamily::qwen35,
                                   SplitFamily::tekken, SplitFamily::o200k}) {
    std::string pattern(split_pattern(family));
    EXPECT_EQ(family_of_pattern(pattern), family);
    for (std::size_t at; (at = pattern.find("\\n")) != pattern.npos;) pattern.replace(at, 2, "\n");
    for (std::size_t at; (at = pattern.find("\\r")) != pattern.npos;) pattern.replace(at, 2, "\r");
    EXPECT_EQ(family_of_pattern(pattern), family);
  }
  EXPECT_EQ(family_of_pattern(""), std::nullopt);
  EXPECT_EQ(family_of_pattern("\\p{L}+"), std::nullopt);
}

TEST(SplitFamily, TekkenAndO200kFollowCase) {
  EXPECT_THAT(pieces_of(*make_regex_splitter(split_pattern(SplitFamily::tekken), {}), "HelloWORLDfoo's 12 a/b\n"),
              ElementsAre("Hello", "WORLDfoo", "'s", " ", "1", "2", " a", "/b", "\n"));
  EXPECT_THAT(pieces_of(*make_regex_splitter(split_pattern(SplitFamily::o200k), {}), "HelloWORLD's 1234"),
              ElementsAre("Hello", "WORLD's", " ", "123", "4"));
}

TEST(Splitter, FollowsEachBehavior) {
  const std::pair<SplitBehavior, Pieces> cases[] = {
      {SplitBehavior::removed, {"the", "final", "countdown"}},
      {SplitBehavior::isolated, {"the", "-", "final", "-", "-", "countdown"}},
      {SplitBehavior::merged_with_previous, {"the-", "final-", "-", "countdown"}},
      {SplitBehavior::merged_with_next, {"the", "-final", "-", "-countdown"}},
      {SplitBehavior::contiguous, {"the", "-", "final", "--", "countdown"}},
  };
  for (const auto& [behavior, expected] : cases) {
    EXPECT_EQ(pieces_of(*make_literal_splitter("-", {behavior, false}), "the-final--countdown"), expected);
    EXPECT_EQ(pieces_of(*make_regex_splitter("-", {behavior, false}), "the-final--countdown"), expected);
  }
}

TEST(Splitter, InvertsMatchesAndGaps) {
  EXPECT_THAT(pieces_of(*make_regex_splitter("[a-z]+", {SplitBehavior::removed, true}), "ab-cd  e"),
              ElementsAre("ab", "cd", "e"));
}

TEST(Splitter, CutsAtEmptyMatchesAndLeavesOutEmptyPieces) {
  EXPECT_THAT(pieces_of(*make_regex_splitter("x*", {}), "éaxxb"), ElementsAre("é", "a", "xx", "b"));
  EXPECT_THAT(pieces_of(*make_regex_splitter("x", {}), ""), ElementsAre());
}

TEST(Splitter, IsolatesOrJoinsCharacterClasses) {
  EXPECT_THAT(pieces_of(*make_char_splitter(1 << 1, {SplitBehavior::isolated, false}), "a12²b"),
              ElementsAre("a", "1", "2", "²", "b"));
  EXPECT_THAT(pieces_of(*make_char_splitter(1 << 1, {SplitBehavior::contiguous, false}), "a12b"),
              ElementsAre("a", "12", "b"));
}

TEST(Splitter, KnowsBehaviorsByName) {
  EXPECT_EQ(split_behavior_from_name("MergedWithNext"), SplitBehavior::merged_with_next);
  EXPECT_EQ(split_behavior_from_name("isolated"), std::nullopt);
}

template <typename Body>
std::string message_of(const Body& body) {
  try {
    body();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_data);
    return error.message();
  }
  return "no error";
}

TEST(Oniguruma, TranslatesWhatDiffers) {
  EXPECT_EQ(oniguruma_to_pcre2("\\s+[\\S]"), "\\p{White_Space}+[\\P{White_Space}]");
  EXPECT_EQ(oniguruma_to_pcre2("\\v\\u0041\\x{1F600}\\x41"), "\\x0B\\x{0041}\\x{1F600}\\x{41}");
  EXPECT_EQ(oniguruma_to_pcre2("(?i:'s)|a{2,3}|{x|\\/\\-"), "(?i:'s)|a{2,3}|{x|\\/\\-");
  const Regex space(oniguruma_to_pcre2("\\s"));
  EXPECT_FALSE(Regex::Matcher(space, "\xE1\xA0\x8E").next());  // U+180E is no White_Space
  EXPECT_TRUE(Regex::Matcher(space, "\xC2\x85").next());
}

TEST(Oniguruma, RefusesWhatHasNoSameMeaning) {
  const std::pair<const char*, const char*> cases[] = {
      {"[a[b]]", "a character class inside another"},
      {"[[:alpha:]]", "a character class inside another"},
      {"[a&&b]", "intersection"},
      {"(?<name>a)", "the group"},
      {"(?i)a", "the group"},
      {"(*UTF)a", "the group"},
      {"(a)\\1", "the escape \\1"},
      {"\\bx", "the escape \\b"},
      {"[\\W]", "the escape \\W in a class"},
      {"\\h", "the escape \\h"},
      {"a{1,3}+", "'+' after an interval"},
      {"a{,3}", "an interval without its lower bound"},
      {"a\\", "a backslash at the end"},
      {"[ab", "unterminated"},
      {"[]a]", "an empty character class"},
      {"\\x{zz}", "a malformed code point escape"},
      {"\\u12", "a malformed code point escape"},
      {"\\x4", "a malformed code point escape"},
  };
  for (const auto& row : cases)
    EXPECT_THAT(message_of([&] { oniguruma_to_pcre2(row.first); }), HasSubstr(row.second)) << row.first;
}

TEST(Regex, ReportsPatternsThatPcre2Refuses) {
  for (const char* pattern : {"(", "a)", "*", "[z-a]", "\\p{Nonsense}", "a{70000}", "((a{999}){999}){999}"})
    EXPECT_THAT(message_of([&] { Regex{pattern}; }), HasSubstr("split pattern")) << pattern;
  EXPECT_THAT(message_of([&] { Regex{std::string(20'000, 'a')}; }), HasSubstr("20000 bytes"));
  EXPECT_THAT(message_of([&] { Regex{std::string(100, '(') + std::string(100, ')')}; }), HasSubstr("nested"));
}

TEST(Regex, BoundsBacktracking) {
  const Regex regex("(?:a|a|aa)+b");
  const std::string text = std::string(100, 'a') + "cb";  // with a b, or PCRE2 knows better than to try
  Regex::Matcher matcher(regex, text);
  EXPECT_THAT(message_of([&] { matcher.next(); }), HasSubstr("match limit"));
}

TEST(Regex, WalksOverLongRunsInOneGo) {
  for (const SplitFamily family : {SplitFamily::llama3, SplitFamily::tekken, SplitFamily::o200k})
    for (const char c : {'a', ' ', '\n', '!', '7'}) {
      const std::string text(1'000'000, c);
      std::size_t bytes = 0;
      for (const std::string& piece : pieces_of(*make_regex_splitter(split_pattern(family), {}), text))
        bytes += piece.size();
      EXPECT_EQ(bytes, text.size());
    }
}

}  // namespace
}  // namespace adze
