#include "recipe/diagnostics.h"

#include <memory>

#include <gtest/gtest.h>

#include "recipe/errors.h"

namespace adze {
namespace {

using testing::recipe_error;
using testing::repeated;

Diagnostics about(std::string text) {
  return Diagnostics(std::make_shared<const Source>(std::move(text), "dir/x.yaml"));
}

TEST(Diagnostics, FormatsPlaceMessageLineAndCaret) {
  const std::string text = "schemes:\n  w4: { grid: int4, grup: 128 }\n";
  Diagnostics problems = about(text);
  problems.report({text.find("grup")}, "unknown key '{}'; did you mean '{}'?", "grup", "group");
  EXPECT_EQ(problems.format(problems.found()[0]),
            "dir/x.yaml:2:21: unknown key 'grup'; did you mean 'group'?\n"
            "    w4: { grid: int4, grup: 128 }\n"
            "                      ^");
}

TEST(Diagnostics, ThrowsEverythingInTheOrderOfTheFile) {
  Diagnostics problems = about("a\nb\nc\n");
  problems.add({4}, "third");
  problems.add({0}, "first");
  problems.add({}, "the file as a whole");
  EXPECT_EQ(recipe_error([&] { problems.throw_if_any(); }),
            "dir/x.yaml:1:1: first\n    a\n    ^\n"
            "dir/x.yaml:3:1: third\n    c\n    ^\n"
            "dir/x.yaml: the file as a whole");
}

TEST(Diagnostics, ThrowsNothingWhenEmpty) { EXPECT_NO_THROW(about("a").throw_if_any()); }

TEST(Diagnostics, KeepsAThousandAndCountsTheOthers) {
  Diagnostics problems = about("a");
  for (int i = 0; i < 1500; ++i) problems.add({0}, "again");
  EXPECT_EQ(problems.found().size(), Diagnostics::kMaxKept);
  EXPECT_TRUE(problems.format_all().ends_with("... and 1450 more problems"));
}

TEST(Source, PutsTheEndOfTheFileBehindItsLastInk) {
  EXPECT_EQ(Source("ab\ncd\n\n  \n", "x").place_of({99}), (Place{2, 3}));
  EXPECT_EQ(Source("", "x").place_of({0}), (Place{1, 1}));
  EXPECT_EQ(Source("\n\n", "x").place_of({7}), (Place{1, 1}));
}

TEST(Source, CutsLongLinesAroundTheMark) {
  const std::string left = repeated("a", 500), right = repeated("b", 500);
  const Source source(left + "X" + right, "x");
  EXPECT_EQ(source.excerpt({500}),
            "    ... " + repeated("a", 55) + "X" + repeated("b", 54) + " ...\n" + "    " + repeated(" ", 59) + "^");
  EXPECT_EQ(source.excerpt({0}), "    " + repeated("a", 110) + " ...\n    ^");
  EXPECT_EQ(source.excerpt({1001}), "    ... " + repeated("b", 55) + "\n    " + repeated(" ", 59) + "^");
}

TEST(Source, ShowsNothingThatDisturbsATerminal) {
  const Source source("a\tb\x1B[31m\xE2\x80\xAE\xC2\x9Bz\xFF", "x");
  EXPECT_EQ(source.excerpt({2}), "    a b?[31m??z?\n      ^");
}

TEST(Source, QuotesForMessagesShortAndClean) {
  EXPECT_EQ(quoted_for_message("grup"), "'grup'");
  EXPECT_EQ(quoted_for_message("a\nb\x07"), "'a?b?'");
  EXPECT_EQ(quoted_for_message(repeated("x", 60)), "'" + repeated("x", 60) + "'");
  EXPECT_EQ(quoted_for_message(repeated("x", 61)), "'" + repeated("x", 60) + "...'");
  EXPECT_EQ(quoted_for_message(repeated("\xC3\xA9", 61)), "'" + repeated("\xC3\xA9", 60) + "...'");
}

}  // namespace
}  // namespace adze
