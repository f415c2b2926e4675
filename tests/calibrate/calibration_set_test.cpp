#include "calibrate/calibration_set.h"

#include <numeric>
#include <set>

#include "calibrate/calibrate_testing.h"
#include "text/tokenizer_fixtures.h"

namespace adze {
namespace {

using testing::expect_error;
using testing::TempFolder;

/// Ids are bytes: what was tokenized can be read off. Puts <|start|> (265) before each text.
const Tokenizer& byte_tokenizer() {
  static const Tokenizer tokenizer = [] {
    test::json root = test::toy_json();
    root["model"]["merges"] = test::json::array();
    return test::load(root);
  }();
  return tokenizer;
}

std::string text_of(const TextSet& set) {
  std::string text;
  for (const std::int32_t id : tokenize_set(set, byte_tokenizer())) text += static_cast<char>(id);
  return text;
}

TextSet set_of(const TempFolder& folder, const std::string& texts, const std::string& more = "") {
  return parse_text_set("adze_text: 1\ntexts:\n" + texts + more, (folder / "set.yaml").string());
}

std::vector<std::int32_t> counting(std::size_t count) {
  std::vector<std::int32_t> ids(count);
  std::iota(ids.begin(), ids.end(), 0);
  return ids;
}

/// First id of each window.
std::vector<std::int32_t> starts(const TokenWindows& windows) {
  std::vector<std::int32_t> first;
  for (std::size_t w = 0; w < windows.count(); ++w) first.push_back(windows.window(w)[0]);
  return first;
}

TEST(CutDraws, ShareNoWindowAndBeginWithSmallerOnes) {
  const std::vector<std::int32_t> stream = counting(1000);
  const std::vector<TokenWindows> draws = cut_draws(stream, {}, {12, 10, 3}, 8, "set");
  ASSERT_EQ(draws.size(), 8U);
  std::set<std::int32_t> seen;
  for (const TokenWindows& draw : draws) {
    ASSERT_EQ(draw.count(), 12U);
    for (const std::int32_t first : starts(draw)) {
      EXPECT_EQ(first % 10, 0);
      EXPECT_TRUE(seen.insert(first).second) << first;
    }
  }
  EXPECT_EQ(draws[2].first(5).ids, std::vector<std::int32_t>(draws[2].ids.begin(), draws[2].ids.begin() + 50));
  EXPECT_EQ(cut_draws(stream, {}, {12, 10, 3}, 2, "set")[1].ids, draws[1].ids) << "more draws change none before";
  EXPECT_NE(cut_draws(stream, {}, {12, 10, 4}, 1, "set")[0].ids, draws[0].ids);
  expect_error(ErrorKind::bad_data, "100 windows of 10, but 108 are asked for", [&] {
    cut_draws(stream, {}, {12, 10, 3}, 9, "set");
  });
}

TEST(CutWindows, SeedZeroTakesTheFirstWindows) {
  const TokenWindows windows = cut_windows(counting(100), {}, {3, 8, 0}, "set");
  EXPECT_EQ(windows.tokens, 8U);
  EXPECT_EQ(windows.ids, counting(24));
}

TEST(CutWindows, AnotherSeedDrawsWithoutRepetitionInTheOrderOfTheText) {
  std::set<std::vector<std::int32_t>> draws;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    const TokenWindows windows = cut_windows(counting(1000), {}, {30, 10, seed}, "set");
    const std::vector<std::int32_t> first = starts(windows);
    EXPECT_TRUE(std::ranges::is_sorted(first));
    EXPECT_EQ(std::set<std::int32_t>(first.begin(), first.end()).size(), 30U) << seed;
    for (std::size_t w = 0; w < 30; ++w) {
      EXPECT_EQ(first[w] % 10, 0);
      for (std::size_t t = 0; t < 10; ++t) EXPECT_EQ(windows.window(w)[t], first[w] + static_cast<std::int32_t>(t));
    }
    draws.insert(first);
  }
  EXPECT_EQ(draws.size(), 20U);  // 30 of 100: no two seeds draw the same
}

TEST(CutWindows, EveryWindowIsDrawnAboutEquallyOften) {
  std::vector<int> count(10);
  for (std::uint64_t seed = 1; seed <= 1000; ++seed)
    for (const std::int32_t first : starts(cut_windows(counting(10), {}, {3, 1, seed}, "set"))) ++count[first];
  for (const int times : count) EXPECT_NEAR(times, 300, 75);  // 5 standard deviations of 14.5
}

TEST(CutWindows, TheSameSeedDrawsTheSameAndAllWindowsMayBeDrawn) {
  const auto draw = [](std::uint64_t seed, std::size_t count) {
    return cut_windows(counting(100), {}, {count, 10, seed}, "set");
  };
  EXPECT_EQ(draw(5, 4).ids, draw(5, 4).ids);
  EXPECT_EQ(draw(5, 10).ids, counting(100));
}

TEST(CutWindows, ThePrefixStandsBeforeEveryWindowAndCountsAsTokens) {
  const TokenWindows windows = cut_windows(counting(20), std::vector<std::int32_t>{900, 901}, {2, 6, 0}, "set");
  EXPECT_EQ(windows.ids, (std::vector<std::int32_t>{900, 901, 0, 1, 2, 3, 900, 901, 4, 5, 6, 7}));
}

TEST(CutWindows, ExactlyEnoughTextIsEnough) {
  EXPECT_EQ(cut_windows(counting(24), {}, {3, 8, 1}, "set").count(), 3U);
  expect_error(ErrorKind::bad_data,
               "set: 23 tokens give 2 windows of 8, but 3 are asked for; add text, or lower windows or tokens", [] {
                 cut_windows(counting(23), {}, {3, 8, 1}, "set");
               });
}

TEST(CutWindows, RefusesWindowsWithoutRoomForTextAndNoWindows) {
  const std::vector<std::int32_t> prefix = {1, 2};
  for (const std::size_t tokens : {0, 1, 2})
    expect_error(ErrorKind::bad_data,
                 fmt::format("set: windows of {} tokens leave no room for text after 2 special tokens", tokens), [&] {
                   cut_windows(counting(10), prefix, {1, tokens, 0}, "set");
                 });
  expect_error(ErrorKind::bad_data, "set: 0 windows are asked for", [] {
    cut_windows(counting(9), {}, {0, 2, 0}, "set");
  });
}

TEST(TokenWindows, HashTellsContentAndCutApart) {
  const TokenWindows windows{4, counting(8)};
  EXPECT_EQ(windows.hash(), (TokenWindows{4, counting(8)}.hash()));
  EXPECT_NE(windows.hash(), (TokenWindows{2, counting(8)}.hash()));
  TokenWindows changed = windows;
  changed.ids[7] = 9;
  EXPECT_NE(windows.hash(), changed.hash());
}

TEST(TokenizeSet, TextsFollowEachOtherWithoutSpecialTokens) {
  const TempFolder folder;
  folder.put("a.txt", "one <|start|>");
  folder.put("b.txt", "two");
  EXPECT_EQ(text_of(set_of(folder, "  - { file: a.txt }\n  - { file: b.txt }\n")), "one <|start|>two");
}

TEST(TokenizeSet, InterleavesByCharactersNotBytes) {
  const TempFolder folder;
  folder.put("a.txt", "äöü€𝄞xyz");  // 2, 3 and 4 bytes a character
  folder.put("b.txt", "ABCDE");
  folder.put("c.txt", "1");
  const std::string texts = "  - { file: a.txt }\n  - { file: b.txt }\n  - { file: c.txt }\n";
  EXPECT_EQ(text_of(set_of(folder, texts, "interleave: 2\n")), "äöAB1ü€CD𝄞xEyz");
  EXPECT_EQ(text_of(set_of(folder, texts, "interleave: 1\n")), "äA1öBüC€D𝄞Exyz");
  EXPECT_EQ(text_of(set_of(folder, texts, "interleave: 100\n")), "äöü€𝄞xyzABCDE1");
}

TEST(TokenizeSet, ReadsAFieldOfEveryJsonLine) {
  const TempFolder folder;
  folder.put("a.jsonl",
             "{\"text\": \"caf\\u00e9\", \"n\": 1}\n\n  \r\n{\"n\": [2], \"text\": \"two\"}\r\n{\"text\": \"\"}");
  EXPECT_EQ(text_of(load_text_set(folder / "a.jsonl")), "café\ntwo\n\n");
  folder.put("b.data", "{\"body\": \"x\"}");
  EXPECT_EQ(text_of(set_of(folder, "  - { file: b.data, field: body }\n")), "x\n");
}

TEST(TokenizeSet, TakesTokenIdsAsTheyAre) {
  const TempFolder folder;
  folder.put("a.json", "[1, 265, 0]");
  folder.put("b.data", " [7] ");
  EXPECT_EQ(tokenize_set(load_text_set(folder / "a.json"), byte_tokenizer()), (std::vector<std::int32_t>{1, 265, 0}));
  const TextSet both = set_of(folder, "  - { file: a.json, ids: true }\n  - { file: b.data, ids: true }\n");
  EXPECT_EQ(tokenize_set(both, byte_tokenizer()), (std::vector<std::int32_t>{1, 265, 0, 7}));
}

struct BadText {
  const char* file;
  const char* content;
  const char* message;  ///< after the file's path
};

TEST(TokenizeSet, NamesFileAndPlaceOfEveryProblem) {
  const BadText cases[] = {
      {"a.txt", "", ": the text is empty"},
      {"a.txt", "gut \xE4hnlich", ": byte 4: not UTF-8; convert it first, e.g. iconv -f LATIN1 -t UTF-8"},
      {"a.txt", "\xC3\xA4 \xE2\x82", ": byte 3: not UTF-8"},
      {"a.txt", "ok \xC0\x80", ": byte 3: not UTF-8"},
      {"a.jsonl", "\n\n", ": the text is empty"},
      {"a.jsonl", "{\"text\": \"a\"}\n{\"text\": 1}", ":2: no text in field 'text'"},
      {"a.jsonl", "{\"other\": \"a\"}", ":1: no text in field 'text'"},
      {"a.jsonl", "\n[\"text\"]", ":2: no text in field 'text'"},
      {"a.jsonl", "{\"text\": \"a\"}\n{\"text\": ", ":2: "},
      {"a.json", "{}", ": not an array of token ids"},
      {"a.json", "[1, 266]", ": entry 1 is 266, not a token id below 266"},
      {"a.json", "[-1]", ": entry 0 is -1, not a token id below 266"},
      {"a.json", "[1, 2, 3.5]", ": entry 2 is 3.5, not a token id below 266"},
      {"a.json", "[1, \"2\"]", ": entry 1 is \"2\", not a token id below 266"},
      {"a.json", "[1,", ""},
  };
  for (const BadText& bad : cases) {
    const TempFolder folder;
    const auto path = folder.put(bad.file, bad.content);
    expect_error(ErrorKind::bad_data, path.string() + bad.message,
                 [&] { tokenize_set(load_text_set(path), byte_tokenizer()); });
  }
}

TEST(TokenizeSet, MissingFilesAreMissingInput) {
  const TempFolder folder;
  for (const char* name : {"no.txt", "no.jsonl", "no.json"})
    expect_error(ErrorKind::missing_input, name, [&] { tokenize_set(load_text_set(folder / name), byte_tokenizer()); });
}

TEST(TokenizeSet, IdsDoNotMixWithTextOrInterleaving) {
  const TempFolder folder;
  folder.put("a.txt", "text");
  folder.put("b.json", "[1]");
  const TextSet mixed = set_of(folder, "  - { file: b.json, ids: true }\n  - { file: a.txt }\n");
  TextSet interleaved = set_of(folder, "  - { file: b.json, ids: true }\n");
  interleaved.interleave = 5;
  for (const TextSet& set : {mixed, interleaved})
    expect_error(ErrorKind::bad_data, "set.yaml: token ids stand in sets of their own, without interleave",
                 [&] { tokenize_set(set, byte_tokenizer()); });
}

TEST(LoadWindows, CutsWithTheTokenizersPrefix) {
  const TempFolder folder;
  const auto path = folder.put("a.txt", "abcdefgh");
  const TokenWindows windows = load_windows(path, byte_tokenizer(), {2, 4, 0});
  EXPECT_EQ(windows.ids, (std::vector<std::int32_t>{265, 'a', 'b', 'c', 265, 'd', 'e', 'f'}));
  expect_error(ErrorKind::bad_data, path.string() + ": 8 tokens give 2 windows of 4, but 3 are asked for", [&] {
    load_windows(path, byte_tokenizer(), {3, 4, 0});
  });
}

TEST(SharedText, IsTheShareOfPiecesThatBothHave) {
  std::vector<std::int32_t> stream(1000);
  for (std::size_t i = 0; i < stream.size(); ++i) stream[i] = static_cast<std::int32_t>(i * i % 997);
  const TokenWindows windows{250, {stream.begin(), stream.begin() + 500}};
  EXPECT_EQ(shared_text(windows, std::span(stream).first(250)), 1.0);
  std::vector<std::int32_t> other(500, 7);
  EXPECT_EQ(shared_text(windows, other), 0.0);
  other.insert(other.end(), stream.begin(), stream.begin() + 128);  // 65 pieces of 128 - 63, in 628 - 63 in all
  EXPECT_NEAR(shared_text(windows, other), 65.0 / 565.0, 1e-12);
  EXPECT_EQ(shared_text(windows, std::span(stream).first(63)), 0.0) << "shorter than a piece";
}

}  // namespace
}  // namespace adze
