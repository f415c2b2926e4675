#include "recipe/document.h"

#include <chrono>
#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "recipe/errors.h"

namespace adze {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using testing::recipe_error;
using testing::repeated;
using ::testing::StartsWith;

/// All problems of a text, those that end parsing and those that do not.
std::string problems_of(const std::string& text) {
  return recipe_error([&] { Document::parse(text, "r.yaml").problems().throw_if_any(); });
}

TEST(Document, KeepsKindsTextsQuotesAndPlaces) {
  Document document = Document::parse("a: 1\nb: ['x', ~]\nc: {d: \"2\"}\n", "r.yaml");
  EXPECT_TRUE(document.problems().empty());
  const Node& root = document.root();
  ASSERT_EQ(root.kind, NodeKind::map);
  ASSERT_EQ(root.entry_count(), 3u);
  EXPECT_EQ(root.key(0).text, "a");
  EXPECT_EQ(root.value(0).text, "1");
  EXPECT_FALSE(root.value(0).quoted);
  ASSERT_EQ(root.value(1).kind, NodeKind::list);
  ASSERT_EQ(root.value(1).children.size(), 2u);
  EXPECT_TRUE(root.value(1).children[0].quoted);
  EXPECT_EQ(root.value(1).children[1].kind, NodeKind::null);
  ASSERT_EQ(root.value(2).kind, NodeKind::map);
  EXPECT_EQ(document.source()->place_of(root.value(2).value(0).where), (Place{3, 8}));
}

TEST(Document, ReportsASyntaxErrorWithLineColumnAndCaret) {
  EXPECT_EQ(problems_of("adze: 1\n  rules: x: y\n"),
            "r.yaml:2:8: ':' is not expected here; indent like the lines around, or quote the value\n"
            "    rules: x: y\n"
            "         ^");
}

TEST(Document, CountsColumnsInCharactersNotBytes) {
  EXPECT_EQ(problems_of("{ grüße: 1, grüße: 2 }\n"),
            "r.yaml:1:13: duplicate key 'grüße'; it stands in line 1 already\n"
            "    { grüße: 1, grüße: 2 }\n"
            "                ^");
}

TEST(Document, ReportsEveryDuplicateKeyInOneRun) {
  EXPECT_EQ(problems_of("a: 1\nb: { c: 1, c: 2 }\n\"a\": 3\n"),
            "r.yaml:2:12: duplicate key 'c'; it stands in line 2 already\n"
            "    b: { c: 1, c: 2 }\n"
            "               ^\n"
            "r.yaml:3:1: duplicate key 'a'; it stands in line 1 already\n"
            "    \"a\": 3\n"
            "    ^");
}

TEST(Document, DropsTheSecondOfTwoEqualKeys) {
  Document document = Document::parse("short: 1\nshort: 2\nlonger-than-a-small-string: 3\n", "r.yaml");
  ASSERT_EQ(document.root().entry_count(), 2u);
  EXPECT_EQ(document.root().key(0).text, "short");
  EXPECT_EQ(document.root().value(0).text, "1");
  EXPECT_EQ(document.root().value(1).text, "3");
}

TEST(Document, RefusesAnchorsAndAliasesWhereTheyStand) {
  EXPECT_EQ(problems_of("a: &x 1\nb: *x\n"),
            "r.yaml:1:4: anchors ('&name') are not supported; write the value out each time\n"
            "    a: &x 1\n"
            "       ^\n"
            "r.yaml:2:4: aliases ('*name') are not supported; write the value out\n"
            "    b: *x\n"
            "       ^");
}

TEST(Document, RefusesMergeKeys) {
  EXPECT_EQ(problems_of("a:\n  <<: { b: 1 }\n"),
            "r.yaml:2:3: merge keys ('<<') are not supported; write the keys out\n"
            "    <<: { b: 1 }\n"
            "    ^");
}

TEST(Document, TakesAQuotedMergeKeyAsAWord) { EXPECT_TRUE(Document::parse("'<<': 1\n", "r.yaml").problems().empty()); }

TEST(Document, NeverExpandsAnAliasBomb) {
  std::string bomb = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n";
  for (int level = 1; level < 30; ++level) {
    const std::string before = "*a" + std::to_string(level - 1);
    bomb += "a" + std::to_string(level) + ": &a" + std::to_string(level) + " [" + repeated(before + ", ", 8) + before +
            "]\n";
  }
  const std::string message = problems_of(bomb);
  EXPECT_THAT(message, StartsWith("r.yaml:1:5: anchors"));
  EXPECT_THAT(message, HasSubstr("r.yaml:2:10: aliases"));
  EXPECT_THAT(message, HasSubstr("more problems"));
}

TEST(Document, SuggestsQuotesForAGlobThatLooksLikeAnAlias) {
  EXPECT_EQ(problems_of("modules: *.down_proj\n"),
            "r.yaml:1:10: '*' starts a YAML alias, which is not supported; quote a value that begins with '*'\n"
            "    modules: *.down_proj\n"
            "             ^");
}

TEST(Document, RefusesTags) {
  EXPECT_EQ(problems_of("a: !!str 5\n"),
            "r.yaml:1:4: tags ('tag:yaml.org,2002:str') are not supported; quotes make a value text\n"
            "    a: !!str 5\n"
            "       ^");
}

TEST(Document, RefusesKeysThatAreNoWords) {
  EXPECT_THAT(problems_of("{[x]: 1}\n"), StartsWith("r.yaml:1:2: a key is one word, not a list or a map\n"));
  EXPECT_THAT(problems_of("{{x: 2}: 1}\n"), StartsWith("r.yaml:1:2: a key is one word, not a list or a map\n"));
  EXPECT_THAT(problems_of(": 1\n"), StartsWith("r.yaml:1:1: a key is missing before ':'\n"));
}

TEST(Document, RefusesASecondDocument) {
  EXPECT_EQ(problems_of("a: 1\n---\nb: 2\n"),
            "r.yaml:2:1: a second YAML document starts here; a file holds one (check for '---' and for indentation)\n"
            "    ---\n"
            "    ^");
  EXPECT_THAT(problems_of("- a\nb: 1\n"), StartsWith("r.yaml:2:1: a second YAML document"));
}

TEST(Document, AcceptsDocumentMarkersAroundTheOneDocument) {
  EXPECT_EQ(Document::parse("---\na: 1\n...\n", "r.yaml").root().entry_count(), 1u);
}

TEST(Document, RefusesTabsInIndentationOnEveryLine) {
  EXPECT_EQ(problems_of("a:\n\tb: 1\n  \tc: 2\n"),
            "r.yaml:2:1: a tab in the indentation; YAML is indented with spaces\n"
            "     b: 1\n"
            "    ^\n"
            "r.yaml:3:3: a tab in the indentation; YAML is indented with spaces\n"
            "     c: 2\n"
            "    ^");
}

TEST(Document, AcceptsTabsThatDoNotIndent) {
  EXPECT_EQ(Document::parse("a: 1\t# comment\n\t\nb: 2\n", "r.yaml").root().entry_count(), 2u);
}

TEST(Document, NamesTheOpeningOfAnUnclosedBracket) {
  EXPECT_THAT(problems_of("a: [1, 2\nb: 3\n"), StartsWith("r.yaml:1:4: '[' without its ']'\n"));
  EXPECT_THAT(problems_of("a: { b: 1,\n"), StartsWith("r.yaml:1:4: '{' without its '}'\n"));
}

TEST(Document, NamesTheOpeningOfAnUnclosedQuote) {
  EXPECT_EQ(problems_of("a: 1\nb: \"abc\nc: 2\n"),
            "r.yaml:2:4: the quoted text that starts here has no end\n"
            "    b: \"abc\n"
            "       ^");
  EXPECT_THAT(problems_of("b: 'it''s"), StartsWith("r.yaml:1:4: the quoted text"));
  EXPECT_THAT(problems_of("b: \"x\\\""), StartsWith("r.yaml:1:4: the quoted text"));
  EXPECT_THAT(problems_of("b: \"x\\"), StartsWith("r.yaml:1:4: the quoted text"));
}

TEST(Document, AcceptsEscapedQuotes) {
  const Document document = Document::parse("a: 'it''s'\nb: \"x\\\"y\"\nc: ''\nd: \"\\\\\"\n", "r.yaml");
  EXPECT_EQ(document.root().value(0).text, "it's");
  EXPECT_EQ(document.root().value(1).text, "x\"y");
  EXPECT_EQ(document.root().value(2).text, "");
  EXPECT_EQ(document.root().value(3).text, "\\");
}

TEST(Document, RefusesBinaryBytesWithTheirPlace) {
  EXPECT_EQ(problems_of("a: 1\nb: \xFFx\n"),
            "r.yaml:2:4: byte 0xFF is not UTF-8 text; is this a YAML file?\n"
            "    b: ?x\n"
            "       ^");
  EXPECT_THAT(problems_of(std::string("GGUF\x03\0\0\0", 8)), StartsWith("r.yaml:1:5: control character U+0003"));
  EXPECT_THAT(problems_of(std::string("a\0b", 3)), StartsWith("r.yaml:1:2: control character U+0000"));
  EXPECT_THAT(problems_of("a: \xC0\xAF\n"), StartsWith("r.yaml:1:4: byte 0xC0"));          // overlong '/'
  EXPECT_THAT(problems_of("a: \xED\xA0\x80\n"), StartsWith("r.yaml:1:4: byte 0xED"));      // surrogate
  EXPECT_THAT(problems_of("a: \xF4\x90\x80\x80\n"), StartsWith("r.yaml:1:4: byte 0xF4"));  // beyond U+10FFFF
  EXPECT_THAT(problems_of("a: \xE2\x82"), StartsWith("r.yaml:1:4: byte 0xE2"));            // cut off
  EXPECT_THAT(problems_of("a: 1\rb: 2\n"), StartsWith("r.yaml:1:5: carriage return"));
}

TEST(Document, AcceptsWindowsLineEndsAndAByteOrderMark) {
  Document document = Document::parse(
      "\xEF\xBB\xBF"
      "a: 1\r\nb: 2\r\n",
      "r.yaml");
  ASSERT_EQ(document.root().entry_count(), 2u);
  EXPECT_EQ(document.root().value(0).text, "1");
  EXPECT_EQ(document.source()->place_of(document.root().key(1).where), (Place{2, 1}));
}

TEST(Document, StopsAtDepth32) {
  const auto nested = [](std::size_t depth) { return repeated("[", depth) + repeated("]", depth); };
  EXPECT_EQ(Document::parse(nested(kMaxYamlDepth), "r.yaml").root().kind, NodeKind::list);
  EXPECT_THAT(problems_of(nested(kMaxYamlDepth + 1)), StartsWith("r.yaml:1:33: nested more than 32 levels deep\n"));
}

TEST(Document, StopsDepthBombsOfEveryShape) {
  for (const char* piece : {"[", "{", "- ", "? ", "a: {", "[a,", "{a: "}) {
    const std::string bomb = repeated(piece, 200'000 / std::string_view(piece).size());
    EXPECT_THAT(problems_of(bomb), HasSubstr("nested more than 32 levels deep")) << piece;
  }
}

TEST(Document, StopsAtAHundredThousandNodes) {
  EXPECT_EQ(Document::parse(repeated("- a\n", kMaxYamlNodes - 1), "r.yaml").root().children.size(), kMaxYamlNodes - 1);
  EXPECT_THAT(problems_of(repeated("- a\n", kMaxYamlNodes)), StartsWith("r.yaml:100000:3: more than 100000 values"));
}

TEST(Document, RefusesMoreThanOneMebibyteBeforeParsing) {
  EXPECT_EQ(problems_of(repeated("#", kMaxSourceBytes + 1)),
            "r.yaml: 1048577 bytes, more than the 1048576 a YAML file may have here");
  EXPECT_EQ(Document::parse(repeated("#", kMaxSourceBytes), "r.yaml").root().kind, NodeKind::null);
}

TEST(Document, RefusesATwoMegabyteFileWithoutReadingIt) {
  const auto path = std::filesystem::path(::testing::TempDir()) / "adze_two_megabytes.yaml";
  std::ofstream(path) << repeated("a: 1\n", 400'000);
  const std::string message = recipe_error([&] { Document::load(path); });
  EXPECT_THAT(message, EndsWith("2000000 bytes, more than the 1048576 a YAML file may have here"));
  std::filesystem::remove(path);
}

TEST(Document, SaysThatAFileIsMissing) {
  try {
    Document::load("no/such/recipe.yaml");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::missing_input);
  }
}

TEST(Document, EmptyTextIsANullNode) {
  for (const char* text : {"", "\n\n", "# a comment\n", "---\n"})
    EXPECT_EQ(Document::parse(text, "r.yaml").root().kind, NodeKind::null) << text;
}

TEST(Document, ListsAtMostFiftyProblemsAndCountsTheRest) {
  const std::string message = problems_of("a: 1\n" + repeated("a: 1\n", 2000));
  EXPECT_EQ(std::ranges::count(message, '^'), 50);
  EXPECT_THAT(message, EndsWith("... and 1950 more problems"));
}

// One line of 1 MiB with a problem at every key: any step that is quadratic in the line's length would take minutes.
TEST(Document, StaysFastOnHostileLines) {
  const auto start = std::chrono::steady_clock::now();
  EXPECT_THAT(problems_of("{" + repeated("a: 1, ", 45'000) + "}"), HasSubstr("duplicate key"));
  EXPECT_THAT(problems_of("[" + repeated("&a b, ", 90'000) + "]"), HasSubstr("anchors"));
  EXPECT_THAT(problems_of("[" + repeated("'", 1'000'000)), HasSubstr("r.yaml:1:"));
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  EXPECT_LT(seconds.count(), 20) << "about 1 s when built with optimisation";
}

}  // namespace
}  // namespace adze
