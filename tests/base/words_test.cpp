// Names and quantities in words: suggestions, globs, byte counts.
#include "base/words.h"

#include <chrono>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace adze {
namespace {

const std::vector<std::string> kVerbs{"compress", "eval", "export", "import"};

TEST(NearestWord, FindsWhatWasProbablyMeant) {
  EXPECT_EQ(nearest_word("compres", kVerbs), "compress");
  EXPECT_EQ(nearest_word("imprt", kVerbs), "import");
  EXPECT_EQ(nearest_word("eval", kVerbs), "eval");
}

TEST(NearestWord, GivesNothingWhenNothingIsNear) {
  EXPECT_EQ(nearest_word("quantize", kVerbs), std::nullopt);
  EXPECT_EQ(nearest_word("x", {}), std::nullopt);
  EXPECT_EQ(suggestion("quantize", kVerbs), "");
  EXPECT_EQ(suggestion("evil", kVerbs), "; did you mean 'eval'?");
}

TEST(NearestWord, TakesTheFirstOfEquallyNearOnes) {
  EXPECT_EQ(nearest_word("ab", std::vector<std::string>{"ax", "ay"}), "ax");
}

TEST(Glob, OneStarStaysInsideASegment) {
  EXPECT_TRUE(glob_match("layers.*.mlp.down_proj", "layers.11.mlp.down_proj"));
  EXPECT_FALSE(glob_match("layers.*.down_proj", "layers.11.mlp.down_proj"));
  EXPECT_TRUE(glob_match("*", "lm_head"));
  EXPECT_FALSE(glob_match("*", "layers.0"));
  EXPECT_TRUE(glob_match("*", ""));
}

TEST(Glob, TwoStarsCrossSegments) {
  EXPECT_TRUE(glob_match("layers.**", "layers.0.self_attn.q_proj"));
  EXPECT_TRUE(glob_match("**", "layers.0.self_attn.q_proj"));
  EXPECT_TRUE(glob_match("**.q_proj", "layers.0.self_attn.q_proj"));
  EXPECT_FALSE(glob_match("layers.**", "layer.0"));
}

TEST(Glob, TheWholeNameMustMatch) {
  EXPECT_FALSE(glob_match("layers", "layers.0"));
  EXPECT_FALSE(glob_match("layers.0", "layers"));
  EXPECT_TRUE(glob_match("layers.?", "layers.7"));
  EXPECT_FALSE(glob_match("layers.?", "layers.17"));
  EXPECT_TRUE(glob_match("", ""));
  EXPECT_FALSE(glob_match("", "a"));
}

TEST(Glob, ManyStarsTakeNoTime) {
  std::string pattern;
  for (int i = 0; i < 1000; ++i) pattern += "*a";
  const std::string name(5000, 'a');
  const auto start = std::chrono::steady_clock::now();
  EXPECT_FALSE(glob_match(pattern + "b", name));
  EXPECT_TRUE(glob_match(pattern, name));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));  // backtracking would take years
}

TEST(ParseBytes, KnowsUnitsOfBothKinds) {
  EXPECT_EQ(parse_bytes("1234"), 1234u);
  EXPECT_EQ(parse_bytes("0"), 0u);
  EXPECT_EQ(parse_bytes("4 GiB"), 4ULL << 30);
  EXPECT_EQ(parse_bytes("4GiB"), 4ULL << 30);
  EXPECT_EQ(parse_bytes("500MB"), 500'000'000u);
  EXPECT_EQ(parse_bytes("1.5kB"), 1500u);
  EXPECT_EQ(parse_bytes("0.5 KiB"), 512u);
  EXPECT_EQ(parse_bytes("2 TiB"), 2ULL << 40);
}

TEST(ParseBytes, RefusesEverythingElse) {
  for (const char* const text : {"", "x", "GiB", "-1", "-1 MB", "4 gib", "4 GiB x", "4  Gb", "1e3", "nan", "inf",
                                 "0x10", "1,5 GB", " 4GB", "99999999999999 TiB", "4 G"})
    EXPECT_EQ(parse_bytes(text), std::nullopt) << text;
}

TEST(BytesInWords, SwitchesUnitsAt1024) {
  EXPECT_EQ(bytes_in_words(0), "0 B");
  EXPECT_EQ(bytes_in_words(1023), "1023 B");
  EXPECT_EQ(bytes_in_words(1024), "1.00 KiB");
  EXPECT_EQ(bytes_in_words(std::uint64_t{3} << 29), "1.50 GiB");
  EXPECT_EQ(bytes_in_words(std::numeric_limits<std::uint64_t>::max()), "16777216.00 TiB");
}

TEST(JoinWords, ReadsLikeAList) {
  EXPECT_EQ(join_words({}), "");
  EXPECT_EQ(join_words(std::vector<std::string>{"a"}), "a");
  EXPECT_EQ(join_words(std::vector<std::string>{"a", "b"}), "a and b");
  EXPECT_EQ(join_words(std::vector<std::string>{"a", "b", "c"}), "a, b and c");
}

}  // namespace
}  // namespace adze
