#include "compare/compared_set.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "calibrate/calibrate_testing.h"
#include "compare/mixture.h"

namespace adze {
namespace {

using testing::expect_error;

ComparedSet set_of(std::string name, std::vector<std::int32_t> ids, std::size_t tokens) {
  return {std::move(name), "set.txt", {{tokens, std::move(ids)}}};
}

std::vector<std::int32_t> counting(std::int32_t first, std::size_t count) {
  std::vector<std::int32_t> ids(count);
  std::iota(ids.begin(), ids.end(), first);
  return ids;
}

TEST(NamedPath, TakesItsNameFromTheFile) {
  EXPECT_EQ(parse_named_path("web=a/b.txt").name, "web");
  EXPECT_EQ(parse_named_path("web=a/b.txt").path, "a/b.txt");
  EXPECT_EQ(parse_named_path("a/code.txt").name, "code");
  EXPECT_EQ(parse_named_path("x=a=b.txt").path, "a=b.txt");
  for (const char* bad : {"", "=a.txt", "name=", "a/b=c.txt", "..=x.txt", "two words=x.txt", "a\nb=x.txt"})
    expect_error(ErrorKind::usage, "is no NAME=PATH", [&] { parse_named_path(bad); });
  const std::vector<NamedPath> twice{{"a", "x.txt"}, {"a", "y.txt"}};
  expect_error(ErrorKind::usage, "two sets are called 'a'", [&] { check_names(twice, "set"); });
}

TEST(TokenProfile, CountsWhatIsThere) {
  const TokenProfile p = token_profile(set_of("s", {1, 1, 2, 3, 1, 1, 2, 3}, 4));
  EXPECT_EQ(p.tokens, 8U);
  EXPECT_EQ(p.distinct, 3U);
  EXPECT_NEAR(p.entropy, 1.5, 1e-12);
  EXPECT_NEAR(p.distinct_pairs, 3.0 / 6, 1e-12);  // 11, 12, 23, in both windows
}

TEST(TokenProfile, FindsRepeatedText) {
  std::vector<std::int32_t> ids = counting(0, 256);
  EXPECT_EQ(token_profile(set_of("s", ids, 256)).repeated, 0);
  std::copy_n(ids.begin(), 64, ids.begin() + 128);  // pieces end where the window does
  EXPECT_NEAR(token_profile(set_of("s", ids, 256)).repeated, 0.25, 1e-12);
}

TEST(TokenDivergence, IsBetweenAlikeAndNothingInCommon) {
  const TokenCounts a = count_tokens(set_of("a", {1, 2, 3, 4}, 4)), b = count_tokens(set_of("b", {5, 6, 7, 8}, 4)),
                    c = count_tokens(set_of("c", {1, 2, 7, 8}, 4));
  EXPECT_NEAR(token_divergence(a, a), 0, 1e-12);
  EXPECT_NEAR(token_divergence(a, b), 1, 1e-12);
  EXPECT_NEAR(token_divergence(a, c), 0.5, 1e-12);
  EXPECT_NEAR(token_divergence(a, c), token_divergence(c, a), 1e-15);
  EXPECT_NEAR(token_coverage(a, c), 0.5, 1e-12);
  EXPECT_NEAR(token_coverage(a, b), 0, 1e-12);
}

TEST(CheckDisjoint, RefusesATextThatASetContains) {
  const std::vector<ComparedSet> sets{set_of("s", counting(0, 512), 512)};
  std::vector<std::int32_t> text = counting(10000, 900);
  EXPECT_NO_THROW(check_disjoint(sets, std::vector<JudgingText>{{"t", "t.txt", text}}));
  std::copy_n(sets[0].draws[0].ids.begin() + 100, 70, text.begin() + 300);
  expect_error(ErrorKind::bad_data, "of the text 't' (t.txt) stands in the calibration set 's' (set.txt)", [&] {
    check_disjoint(sets, std::vector<JudgingText>{{"t", "t.txt", text}});
  });
}

TEST(MixtureWindows, TakeTurnsInTheSharesOfTheWeights) {
  EXPECT_EQ(mixture_counts(std::vector<double>{0.5, 0.3, 0.2}, 10), (std::vector<std::size_t>{5, 3, 2}));
  EXPECT_EQ(mixture_counts(std::vector<double>{1.0 / 3, 1.0 / 3, 1.0 / 3}, 10), (std::vector<std::size_t>{4, 3, 3}));
  EXPECT_EQ(mixture_counts(std::vector<double>{1, 0}, 7), (std::vector<std::size_t>{7, 0}));
  std::vector<ComparedSet> sets;
  for (const std::int32_t first : {0, 100}) sets.push_back(set_of("s", counting(first, 16), 2));
  const TokenWindows mixed = mixture_windows(sets, std::vector<double>{0.75, 0.25}, 0, 4);
  EXPECT_EQ(mixed.ids, (std::vector<std::int32_t>{0, 1, 100, 101, 2, 3, 4, 5}));
}

}  // namespace
}  // namespace adze
