#include "text/utf8.h"

#include <gtest/gtest.h>

#include "base/random.h"
#include "text/byte_alphabet.h"

namespace adze {
namespace {

using namespace std::string_literals;

const std::string kBad = "\xEF\xBF\xBD";

TEST(Utf8, ReplacesMaximalSubparts) {
  const std::pair<std::string, std::string> cases[] = {
      {"", ""},
      {"plain", "plain"},
      {"\xFF", kBad},
      {"a\x80z", "a" + kBad + "z"},
      {"\xC3", kBad},                        // cut after the lead
      {"\xC3(", kBad + "("},                 // the wrong byte is kept
      {"\xC0\xAF", kBad + kBad},             // overlong: C0 cannot lead
      {"\xE0\x80\x80", kBad + kBad + kBad},  // overlong: 80 cannot follow E0
      {"\xE2\x82", kBad},                    // a cut character is one part
      {"\xE2\x82q", kBad + "q"},
      {"\xED\xA0\x80", kBad + kBad + kBad},  // surrogate
      {"\xF0\x9F\x98", kBad},
      {"\xF0\x9F\x98\xF0\x9F\x98\x80", kBad + "\xF0\x9F\x98\x80"},
      {"\xF4\x90\x80\x80", kBad + kBad + kBad + kBad},  // above U+10FFFF
      {"\xF8\x88\x80\x80\x80", kBad + kBad + kBad + kBad + kBad},
      // Unicode 15, table 3-8 and the examples of section 3.9.
      {"\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64",
       "a" + kBad + kBad + kBad + "b" + kBad + "c" + kBad + kBad + "d"},
  };
  for (const auto& [input, expected] : cases) {
    EXPECT_EQ(replace_invalid_utf8(input), expected) << testing::PrintToString(input);
    EXPECT_EQ(is_valid_utf8(input), input == expected) << testing::PrintToString(input);
  }
}

TEST(Utf8, FindsAnIllFormedByteAtEveryPosition) {
  for (std::size_t at = 0; at < 40; ++at) {
    std::string text(40, 'x');
    EXPECT_TRUE(is_valid_utf8(text));
    text[at] = '\xE9';
    EXPECT_FALSE(is_valid_utf8(text)) << at;
    EXPECT_EQ(replace_invalid_utf8(text), std::string(at, 'x') + kBad + std::string(39 - at, 'x'));
  }
}

TEST(Utf8, EveryScalarValueSurvivesARoundTrip) {
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string text;
    append_utf8(text, c);
    const CodePoint point = code_point_at(text, 0);
    ASSERT_EQ(point.value, c);
    ASSERT_EQ(point.length, text.size());
    ASSERT_EQ(previous_code_point(text, text.size()), 0u);
    ASSERT_TRUE(is_valid_utf8(text));
  }
}

TEST(Utf8, RepairedBytesAreWellFormedAndStayAsTheyAre) {
  RandomStream random(1, "utf8");
  for (int round = 0; round < 20'000; ++round) {
    std::string text;
    for (std::uint64_t left = random.below(12); left > 0; --left)
      text += static_cast<char>(random.below(3) == 0 ? random.below(256) : 0xC0 + random.below(0x38));
    const std::string repaired = replace_invalid_utf8(text);
    ASSERT_TRUE(is_valid_utf8(repaired));
    ASSERT_EQ(replace_invalid_utf8(repaired), repaired);
  }
}

TEST(ByteAlphabet, MapsBytesAsGpt2Does) {
  EXPECT_EQ(to_byte_alphabet(" a\n\t\x7F\xAD\xFF"), "ĠaĊĉġŃÿ");
  EXPECT_EQ(byte_symbol(0), char32_t{0x100});
  EXPECT_EQ(byte_symbol(0xAD), char32_t{0x143});
  EXPECT_EQ(byte_symbol(0xA0), char32_t{0x142});
}

TEST(ByteAlphabet, AllBytesSurviveARoundTrip) {
  std::string bytes;
  for (int byte = 0; byte < 256; ++byte) bytes += static_cast<char>(byte);
  EXPECT_EQ(from_byte_alphabet(to_byte_alphabet(bytes)), bytes);
}

TEST(ByteAlphabet, KnowsCharactersOutsideIt) {
  for (const char* text : {" ", "\n", "\xC2\xAD", "\xC5\x84", "日", "a b"})
    EXPECT_FALSE(from_byte_alphabet(text)) << text;
}

}  // namespace
}  // namespace adze
