#include "report/escaped.h"

#include <gtest/gtest.h>

namespace adze {
namespace {

TEST(Escaped, KeepsTextAndShowsControlCharactersAsCodes) {
  EXPECT_EQ(escaped("größe 日本 𝄞"), "größe 日本 𝄞");
  EXPECT_EQ(escaped("a\x1b[31m\x7f\n"), "a\\x1b[31m\\x7f\\x0a");
  EXPECT_EQ(escaped("a\nb\t", '\n'), "a\nb\\x09");
  EXPECT_EQ(escaped(std::string("a\0b", 3)), "a\\x00b");
}

TEST(Escaped, ShowsWhatTurnsALineAroundOrEndsIt) {
  EXPECT_EQ(escaped("a\u202eb\u2066c\u2028d\ufeff"), "a\\u202eb\\u2066c\\u2028d\\ufeff");
  EXPECT_EQ(escaped("\u009b31m"), "\\u009b31m");  // C1: begins a sequence as ESC [ does
}

TEST(Escaped, ShowsBytesThatAreNoUtf8) {
  EXPECT_EQ(escaped("a\xff\xc3"), "a\\xff\\xc3");
  EXPECT_EQ(escaped("\x9b"), "\\x9b");
}

}  // namespace
}  // namespace adze
