#include "text/char_class.h"

#include <cstdlib>
#include <string>

#include <gtest/gtest.h>

#include "text/nfc.h"
#include "text/regex.h"
#include "text/text_generator.h"

namespace adze {
namespace {

bool matches(const Regex& regex, const std::string& text) { return Regex::Matcher(regex, text).next().has_value(); }

/// Every scalar value on its own: the flag is set where the expression matches. Characters that PCRE2's older Unicode
/// does not know are left out.
void expect_flag_is(CharFlag flag, const char* pattern) {
  const Regex regex(pattern);
  const Regex unknown("\\p{Cn}");
  const CharClasses& classes = CharClasses::get();
  std::size_t compared = 0;
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string text;
    append_utf8(text, c);
    if (matches(unknown, text)) continue;
    ++compared;
    ASSERT_EQ((classes(c) & flag) != 0, matches(regex, text))
        << pattern << " U+" << std::hex << static_cast<unsigned>(c);
  }
  EXPECT_GT(compared, 270'000u);
}

TEST(CharClasses, LettersAreThoseOfPcre2) { expect_flag_is(kLetter, "\\p{L}"); }
TEST(CharClasses, NumbersAreThoseOfPcre2) { expect_flag_is(kNumber, "\\p{N}"); }
TEST(CharClasses, MarksAreThoseOfPcre2) { expect_flag_is(kMark, "\\p{M}"); }
TEST(CharClasses, SpacesAreWhiteSpace) { expect_flag_is(kSpace, "\\p{White_Space}"); }
TEST(CharClasses, PunctuationIsUnicodesOrAscii) { expect_flag_is(kPunctuation, "[\\p{P}!-/:-@\\[-`{-~]"); }
TEST(CharClasses, WordCharactersAreThoseOfUts18) {
  expect_flag_is(kWordChar, "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200C}\\x{200D}]");
}
TEST(CharClasses, NewlinesAreCrAndLf) { expect_flag_is(kNewline, "[\\r\\n]"); }

TEST(CharClasses, ReadsNothingAtTheEnd) {
  const CharClasses& classes = CharClasses::get();
  EXPECT_EQ(classes.at("a", 1).length, 0u);
  EXPECT_EQ(classes.skip("abc1", 0, kLetter), 3u);
  EXPECT_EQ(classes.skip_without("abc1", 0, kNumber), 3u);
  EXPECT_EQ(classes.skip("日本x", 0, kLetter), 7u);
}

std::string nfc_of_utf8proc(const std::string& text) {
  utf8proc_uint8_t* result = nullptr;
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
  const auto size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                 static_cast<utf8proc_ssize_t>(text.size()), &result, options);
  EXPECT_GE(size, 0);
  const std::string normalized(reinterpret_cast<const char*>(result), static_cast<std::size_t>(size));
  std::free(result);
  return normalized;
}

TEST(Nfc, EqualsUtf8procOnRandomText) {
  RandomStream random(3, "nfc");
  std::size_t changed = 0;
  for (int round = 0; round < 30'000; ++round) {
    const std::string text = replace_invalid_utf8(test::random_text(random));
    const std::string expected = nfc_of_utf8proc(text);
    ASSERT_EQ(to_nfc(text), expected) << text;
    ASSERT_TRUE(!is_surely_nfc(text) || text == expected) << text;
    changed += text != expected;
  }
  EXPECT_GT(changed, 1000u);
}

TEST(Nfc, EveryCharacterAndEveryPairWithAMarkIsAsUtf8procHasIt) {
  for (char32_t c = 0; c <= 0x2FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    for (const char* suffix : {"", "\xCC\x81", "\xE1\x85\xA1"}) {
      std::string text;
      append_utf8(text, c);
      text += suffix;
      ASSERT_EQ(to_nfc(text), nfc_of_utf8proc(text)) << std::hex << static_cast<unsigned>(c);
    }
    std::string after = "a";
    append_utf8(after, c);
    ASSERT_EQ(to_nfc(after), nfc_of_utf8proc(after)) << std::hex << static_cast<unsigned>(c);
  }
}

TEST(Nfc, LongRunsOfMarksTakeLinearTime) {
  std::string text = "a";
  for (int i = 0; i < 500'000; ++i) text += i % 2 == 0 ? "\xCC\x81" : "\xCC\xA3";  // above, below: half must move
  const std::string normalized = to_nfc(text);
  EXPECT_TRUE(normalized.starts_with("\xE1\xBA\xA1\xCC\xA3"));  // a with dot below, then the other dots
  EXPECT_EQ(to_nfc(normalized), normalized);
}

}  // namespace
}  // namespace adze
