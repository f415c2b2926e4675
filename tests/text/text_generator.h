// Deterministic strings that visit what tokenizers get wrong: scripts, marks, emoji sequences, odd spaces, line ends,
// contractions, long runs, special-token text and ill-formed bytes.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include <utf8proc.h>

#include "base/random.h"
#include "text/utf8.h"

namespace adze::test {

using namespace std::string_view_literals;

inline constexpr std::array kFragments = {
    // Words and contractions of both cases, with straight and curly apostrophes.
    "Hello"sv,
    " world"sv,
    "don't"sv,
    " DON'T"sv,
    "we'll"sv,
    " I'M"sv,
    " you've"sv,
    "THEY'RE"sv,
    " he'd"sv,
    "it's"sv,
    "'S"sv,
    "'"sv,
    "''"sv,
    "'t's"sv,
    "'lL"sv,
    " 'rE"sv,
    "'Ve"sv,
    "isn\xE2\x80\x99t"sv,
    "naïve café"sv,
    "cafe\xCC\x81"sv,
    "CamelCaseWord"sv,
    "snake_case"sv,
    // Numbers.
    "1"sv,
    "42"sv,
    "3.14159"sv,
    " 1234567890"sv,
    "1,000,000"sv,
    "0x7fff"sv,
    "²³¹"sv,
    "½"sv,
    "Ⅷ"sv,
    "٣٤٥٦"sv,
    "१२३"sv,
    "１２３"sv,
    // Spaces and line ends.
    " "sv,
    "  "sv,
    "    "sv,
    "\t"sv,
    "\t\t "sv,
    "\n"sv,
    "\n\n"sv,
    "\r\n"sv,
    "\r\n\r\n"sv,
    "\r"sv,
    " \n"sv,
    "\n "sv,
    " \r\n  "sv,
    "\v"sv,
    "\f"sv,
    "\xC2\xA0"sv,
    "\xE3\x80\x80"sv,
    "\xC2\x85"sv,
    "\xE2\x80\xA8"sv,
    "\xE2\x80\xA9"sv,
    "\xE2\x80\x89"sv,
    "\xE1\x9A\x80"sv,
    "\xE2\x80\x8B"sv,
    "\xEF\xBB\xBF"sv,
    "\xE1\xA0\x8E"sv,
    "\xE2\x80\xAF"sv,
    // Code.
    "def f(x):\n    return x ** 2\n"sv,
    "if (a && b) { c->d(); }"sv,
    "// comment\r\n"sv,
    "#include <vector>"sv,
    "a[i] += 1;"sv,
    "/path/to/file"sv,
    "https://example.org/?q=1&r=2#x"sv,
    "!!!"sv,
    "..."sv,
    " -- "sv,
    "$100"sv,
    "50%"sv,
    "{\"key\": [1, null]}"sv,
    "`tick`"sv,
    "~^|"sv,
    // Scripts.
    "日本語のテキスト"sv,
    "中文字符测试"sv,
    "한국어 문장"sv,
    "\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB"sv,
    "Привет, мир"sv,
    "Ελληνικά"sv,
    "مرحبا بالعالم"sv,
    "שָׁלוֹם"sv,
    "नमस्ते दुनिया"sv,
    "ภาษาไทย"sv,
    "தமிழ்"sv,
    "ქართული"sv,
    "Tiếng Việt"sv,
    "Türkçe İı"sv,
    "straße ſ"sv,
    "ǅ ǈ"sv,
    "𝒜𝓁𝓅𝒽𝒶"sv,
    "𐐷𐐲"sv,
    "ᚠᛇᚻ"sv,
    // Emoji and symbols.
    "😀"sv,
    "👨‍👩‍👧‍👦"sv,
    "👍🏽"sv,
    "🇫🇷"sv,
    "❤️"sv,
    "1️⃣"sv,
    "∑∫√"sv,
    "→←"sv,
    "€£¥"sv,
    "©®™"sv,
    "Ⓐⓑ"sv,
    // Marks: reordering, composition, exclusions.
    "a\xCC\xA3\xCC\x81"sv,
    "a\xCC\x81\xCC\xA3"sv,
    "\xCC\x81"sv,
    " \xCC\x88"sv,
    "e\xCC\x81\xCC\x81"sv,
    "\xE2\x84\xAB"sv,
    "\xE0\xA5\x98"sv,
    "\xE2\xAB\x9D\xCC\xB8"sv,
    "\xE0\xA6\x95\xE0\xA7\x87\xE0\xA6\xBE"sv,
    // Special-token text, whole and broken.
    "<|bos|>"sv,
    "<|eos|>"sv,
    "<|bos|"sv,
    "<|im_start|>"sv,
    "<tool_call>"sv,
    "<|im_start|>user\n"sv,
    "<<|eos|>>"sv,
    "|>"sv,
    "Ġthe"sv,
    "Ċ"sv,
    // Ill-formed UTF-8.
    "\xFF"sv,
    "\xC3"sv,
    "\xE2\x82"sv,
    "\xF0\x9F\x98"sv,
    "\xED\xA0\x80"sv,
    "\xC0\xAF"sv,
    "\x80\x80"sv,
    "\xF4\x90\x80\x80"sv,
    "\xE2\x28\xA1"sv,
    "\0"sv,
    "\xEF\xBF\xBD"sv,
};

struct ScriptRange {
  char32_t first, last;
};
inline constexpr ScriptRange kRanges[] = {
    {0x20, 0x7E},       {0x20, 0x7E},       {0x00, 0x7F},       {0x80, 0xFF},       {0x100, 0x24F},
    {0x2B0, 0x36F},     {0x370, 0x5FF},     {0x600, 0x6FF},     {0x900, 0xDFF},     {0xE00, 0x11FF},
    {0x1E00, 0x206F},   {0x2070, 0x2BFF},   {0x3000, 0x30FF},   {0x4E00, 0x4FFF},   {0xAC00, 0xAFFF},
    {0xA640, 0xABFF},   {0xF900, 0xFFFD},   {0x10000, 0x10FFF}, {0x11000, 0x11FFF}, {0x1D100, 0x1D7FF},
    {0x1F000, 0x1FAFF}, {0x20000, 0x20FFF}, {0x30000, 0x30FFF}, {0x0, 0x10FFFF},
};

inline bool is_assigned(char32_t c) {
  const auto point = static_cast<utf8proc_int32_t>(c);
  const auto category = utf8proc_category(point);
  return utf8proc_codepoint_valid(point) && category != UTF8PROC_CATEGORY_CN && category != UTF8PROC_CATEGORY_CO;
}

/// A code point that our Unicode tables know, so that tables of other versions agree on it.
inline char32_t random_code_point(RandomStream& random) {
  while (true) {
    const ScriptRange range = kRanges[random.below(std::size(kRanges))];
    const auto c = static_cast<char32_t>(range.first + random.below(range.last - range.first + 1));
    if (is_assigned(c)) return c;
  }
}

inline std::string random_run(RandomStream& random) {
  static constexpr std::array kUnits = {"a"sv,  " "sv,  "\n"sv,       "7"sv,  "\r\n"sv, "é"sv, "!"sv,
                                        "ab"sv, "\t"sv, "\xC2\xA0"sv, " x"sv, "日"sv,   "A"sv, "= "sv};
  const std::string_view unit = kUnits[random.below(kUnits.size())];
  std::string run;
  for (std::uint64_t left = 1 + random.below(random.below(20) == 0 ? 3000 : 40); left > 0; --left) run += unit;
  return run;
}

inline std::string random_text(RandomStream& random) {
  std::string text;
  for (std::uint64_t left = 1 + random.below(9); left > 0; --left) {
    const std::uint64_t kind = random.below(20);
    if (kind < 13) {
      text += kFragments[random.below(kFragments.size())];
    } else if (kind < 15) {
      text += random_run(random);
    } else {
      for (std::uint64_t i = random.below(6); i > 0; --i) append_utf8(text, random_code_point(random));
    }
    if (random.below(3) == 0) text += ' ';
  }
  return text;
}

}  // namespace adze::test
