// Foreign text cannot leave its place in a document.
#include "report/markup.h"

#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"
#include "report/numbers.h"
#include "text/utf8.h"

namespace adze {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using namespace std::string_literals;

TEST(Html, MarksBecomeEntities) {
  EXPECT_EQ(html_escaped("<script>alert('x & \"y\"')</script>"),
            "&lt;script&gt;alert(&#39;x &amp; &quot;y&quot;&#39;)&lt;/script&gt;");
  EXPECT_EQ(html_escaped("größe 日本 𝄞"), "größe 日本 𝄞");
}

TEST(Html, InvalidBytesAndControlCharactersAreReplaced) {
  EXPECT_EQ(html_escaped("a\xFF\xC0\xAF z"), "a\uFFFD\uFFFD\uFFFD z");
  EXPECT_EQ(html_escaped("\x1B[31mred\0end"s), "\uFFFD[31mred\uFFFDend");
  EXPECT_EQ(html_escaped("a\u0085b\u009Bc\uFFFEd"), "a\uFFFDb\uFFFDc\uFFFDd");
  EXPECT_EQ(html_escaped("line\nnext\ttab"), "line\nnext\ttab");
}

/// Whatever comes in, the result is well-formed and holds none of the characters that mean something.
TEST(Html, AnyBytesAreSafe) {
  RandomStream random(7, "markup");
  for (int round = 0; round < 300; ++round) {
    std::string bytes;
    for (int i = 0; i < 60; ++i) bytes += static_cast<char>(random.next() % 256);
    const std::string html = html_escaped(bytes);
    EXPECT_TRUE(is_valid_utf8(html));
    EXPECT_EQ(html.find_first_of("<>\"'"), std::string::npos);
    EXPECT_TRUE(is_valid_utf8(markdown_escaped(bytes)));
    EXPECT_EQ(markdown_escaped(bytes).find('\n'), std::string::npos);
    EXPECT_EQ(data_uri("text/csv", bytes).find_first_of("<>\"' \n&#"), std::string::npos);
  }
}

TEST(Markdown, MarksAreEscapedAndNamesStayReadable) {
  EXPECT_EQ(markdown_escaped("layers.3.mlp.down_proj"), "layers.3.mlp.down_proj");
  EXPECT_EQ(markdown_escaped("_a_ **b** [c](d) `e` <f> | g"), "\\_a\\_ \\*\\*b\\*\\* \\[c\\](d) \\`e\\` \\<f\\> \\| g");
  EXPECT_EQ(markdown_escaped("a\r\n# b"), "a  \\# b");
  EXPECT_EQ(markdown_escaped("- not a list"), "\\- not a list");
  EXPECT_EQ(markdown_escaped("12. not a list"), "12\\. not a list");
  EXPECT_EQ(markdown_escaped("12.5"), "12.5");
  EXPECT_EQ(markdown_escaped("   indented"), "indented");
}

TEST(Markdown, AFenceIsLongerThanAnyInIt) {
  EXPECT_EQ(markdown_fenced("plain"), "```\nplain\n```\n");
  EXPECT_EQ(markdown_fenced("a ```` b\n"), "`````\na ```` b\n`````\n");
}

TEST(Csv, FieldsAreQuotedWhereTheyMustBe) {
  EXPECT_EQ(csv_field("plain"), "plain");
  EXPECT_EQ(csv_field("a,b"), "\"a,b\"");
  EXPECT_EQ(csv_field("say \"a\"\n"), "\"say \"\"a\"\"\n\"");
}

TEST(Csv, FormulasAreDisarmedAndNumbersAreNot) {
  EXPECT_EQ(csv_field("=1+1"), "'=1+1");
  EXPECT_EQ(csv_field("@x"), "'@x");
  EXPECT_EQ(csv_field("-x"), "'-x");
  EXPECT_EQ(csv_field("-1.5e-05"), "-1.5e-05");
}

TEST(DataUri, HoldsTheBytesInPercents) {
  EXPECT_EQ(data_uri("text/csv", "a,b\r\n\"ö\""), "data:text/csv;charset=utf-8,a,b%0D%0A%22%C3%B6%22");
}

TEST(Shortened, CountsCharacters) {
  EXPECT_EQ(shortened("größe", 5), "größe");
  EXPECT_EQ(shortened("größer", 5), "größ…");
  EXPECT_EQ(characters_in("größe"), 5U);
}

TEST(Numbers, AreWrittenForTheirPlace) {
  EXPECT_EQ(data_number(0.00123456789), "0.00123457");
  EXPECT_EQ(data_number(std::numeric_limits<double>::quiet_NaN()), "");
  EXPECT_EQ(short_number(1234.56), "1235");
  EXPECT_EQ(short_number(-std::numeric_limits<double>::infinity()), "–");
  EXPECT_EQ(axis_number(0.001), "0.001");
  EXPECT_EQ(axis_number(-0.0), "0");
  EXPECT_EQ(axis_number(1500), "1500");
  EXPECT_EQ(axis_number(2e-5), "2×10⁻⁵");
  EXPECT_EQ(axis_number(-1e12), "-10¹²");
  EXPECT_EQ(number_with_error(0.00456, 0.00013), "0.00456±0.00013");
  EXPECT_EQ(number_with_error(12.5, std::nullopt), "12.5");
}

}  // namespace
}  // namespace adze
