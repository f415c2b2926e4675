// Masks by simple scores: magnitude, Wanda, NoWag-P, and the second-order cost of blocks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "linalg/inverse.h"
#include "masked_testing.h"
#include "solve/gptq/mask_choice.h"
#include "solve/masks/least.h"
#include "solve/masks/mask_rules.h"

namespace adze {
namespace {

std::vector<float> diagonal(const MatrixD& h) {
  std::vector<float> values;
  for (std::size_t i = 0; i < h.rows(); ++i) values.push_back(static_cast<float>(h(i, i)));
  return values;
}

TEST(Masks, WandaReproducesTheGoldenExample) {
  const double expected[2][4] = {{1.640366, 1.654690, 0.476235, 2.573869}, {1.455163, 1.967740, 1.931398, 0.735391}};
  const MatrixF scores = wanda_scores(golden_weights(), diagonal(golden_hessian()));
  for (std::size_t r = 0; r < 2; ++r)
    for (std::size_t c = 0; c < 4; ++c) EXPECT_NEAR(std::sqrt(scores(r, c)), expected[r][c], 1e-5);
  const Mask mask = choose_mask(scores, SparsityPattern::n_of_m(2, 4), Competition::row);
  EXPECT_THAT(pruned_columns(mask, 0), testing::ElementsAre(0, 2));
  EXPECT_THAT(pruned_columns(mask, 1), testing::ElementsAre(0, 3));
}

TEST(Masks, EveryRuleMakesEveryPatternExactly) {
  const MatrixF w = gaussian({12, 96}, 3);
  const MatrixD h = correlated_hessian(96, 4);
  MatrixD inverse = damped(h);
  ASSERT_TRUE(invert(inverse));
  for (const char* text : {"50%", "33.3%", "0%", "100%", "2:4", "4:8", "50% in blocks of 16", "40% in rows"})
    for (const Competition competition : {Competition::matrix, Competition::row})
      for (const MatrixF& scores : {magnitude_scores(w), wanda_scores(w, diagonal(h)), nowag_scores(w, diagonal(h)),
                                    block_scores(w, inverse, 16)}) {
        const SparsityPattern pattern = SparsityPattern::parse(text);
        EXPECT_EQ(pattern_problem(choose_mask(scores, pattern, competition), pattern), std::nullopt) << text;
      }
}

TEST(Masks, RowsThatCompeteAmongThemselvesDifferByAtMostOneZero) {
  const Mask mask =
      choose_mask(magnitude_scores(gaussian({9, 10}, 5)), SparsityPattern::unstructured(0.25), Competition::row);
  for (std::size_t r = 0; r < 9; ++r) {
    EXPECT_GE(mask.kept_in_row(r), 7u);
    EXPECT_LE(mask.kept_in_row(r), 8u);
  }
}

TEST(Masks, PruneWhatIsLeast) {
  const MatrixF w = gaussian({6, 40}, 6);
  const Mask mask = choose_mask(magnitude_scores(w), SparsityPattern::unstructured(0.5), Competition::matrix);
  float largest_pruned = 0;
  float smallest_kept = INFINITY;
  for (std::size_t r = 0; r < 6; ++r)
    for (std::size_t c = 0; c < 40; ++c) {
      float& bound = mask.kept(r, c) ? smallest_kept : largest_pruned;
      bound = mask.kept(r, c) ? std::min(bound, std::fabs(w(r, c))) : std::max(bound, std::fabs(w(r, c)));
    }
  EXPECT_LT(largest_pruned, smallest_kept);
}

TEST(Masks, WandaWithEqualInputsIsMagnitudeRowByRow) {
  const MatrixF w = gaussian({8, 64}, 7);
  const SparsityPattern pattern = SparsityPattern::unstructured(0.5);
  EXPECT_EQ(choose_mask(wanda_scores(w, std::vector<float>(64, 3.0f)), pattern, Competition::row),
            choose_mask(magnitude_scores(w), pattern, Competition::row));
}

TEST(Masks, WandaDoesNotCareHowAnInputIsScaled) {
  const MatrixF w = gaussian({8, 64}, 8);
  std::vector<float> moments = diagonal(correlated_hessian(64, 8));
  const SparsityPattern pattern = SparsityPattern::unstructured(0.5);
  const Mask before = choose_mask(wanda_scores(w, moments), pattern, Competition::row);
  MatrixF scaled = w;
  for (std::size_t r = 0; r < 8; ++r) scaled(r, 5) *= 4;
  moments[5] /= 16;
  EXPECT_EQ(choose_mask(wanda_scores(scaled, moments), pattern, Competition::row), before);
  EXPECT_NE(choose_mask(magnitude_scores(scaled), pattern, Competition::row), before);
}

TEST(Masks, NoWagDoesNotCareHowARowIsScaled) {
  MatrixF w = gaussian({8, 64}, 9);
  const std::vector<float> moments = diagonal(correlated_hessian(64, 9));
  const SparsityPattern pattern = SparsityPattern::unstructured(0.5);
  // Columns are normalised first, over all rows: of one that is scaled alone only the row's own norm cancels exactly,
  // so the scale is common to all.
  const Mask before = choose_mask(nowag_scores(w, moments), pattern, Competition::matrix);
  for (float& value : w.values()) value *= 8;
  EXPECT_EQ(choose_mask(nowag_scores(w, moments), pattern, Competition::matrix), before);
}

TEST(Masks, BlockCostIsWhatLeastSquaresLosesMore) {
  const std::size_t cols = 4;
  const MatrixF w = gaussian({5, 24}, 10);
  const MatrixD h = damped(correlated_hessian(24, 10));
  MatrixD inverse = h;
  ASSERT_TRUE(invert(inverse));
  const MatrixF scores = block_scores(w, inverse, cols);
  for (std::size_t r = 0; r < 5; ++r)
    for (std::size_t g = 0; g < 6; ++g) {
      Mask mask(w.shape());
      mask.prune(r, g * cols, cols);
      const MatrixF best = masked_least_squares(w, h, mask);
      EXPECT_NEAR(cols * scores(r, g * cols) / row_loss(w, best, h, r), 1, 1e-3) << r << " " << g;
    }
}

TEST(Least, TakesTheFirstOfEqualsAndAsManyAsAsked) {
  const std::vector<float> scores = {2, 1, 1, 0, 1, 3};
  std::vector<std::size_t> taken;
  for_least(scores, 3, [&](std::size_t i) { taken.push_back(i); });
  EXPECT_THAT(taken, testing::ElementsAre(1, 2, 3));
  taken.clear();
  for_least(scores, 0, [&](std::size_t i) { taken.push_back(i); });
  EXPECT_TRUE(taken.empty());
  for_least(scores, 6, [&](std::size_t i) { taken.push_back(i); });
  EXPECT_EQ(taken.size(), 6u);
}

TEST(Least, OfManyIsThatOfASort) {
  const MatrixF normal = gaussian({500, 400}, 5);
  std::vector<float> scores(normal.values().begin(), normal.values().end());
  for (std::size_t i = 0; i < scores.size(); ++i) {
    scores[i] *= scores[i];
    if (i % 3 == 0) scores[i] = 0.25f;  // ties
    if (i % 1000 == 0) scores[i] = INFINITY;
  }
  std::vector<float> sorted = scores;
  std::ranges::sort(sorted);
  for (const std::uint64_t count : {1u, 5u, 60000u, 100000u, 150000u, 199900u, 200000u}) {
    const LeastScores least = find_least(scores, count);
    EXPECT_EQ(least.score, sorted[count - 1]) << count;
    const auto below = static_cast<std::uint64_t>(std::ranges::lower_bound(sorted, least.score) - sorted.begin());
    EXPECT_EQ(least.equal, count - below) << count;
  }
}

TEST(PruneLeast, TakesAsManyAsAskedTheFirstRowsOfEquals) {
  MatrixF scores(300, 20);
  for (std::size_t i = 0; i < scores.values().size(); ++i) scores.values()[i] = i % 2 == 0 ? 1.0f : 2.0f;
  std::vector<std::size_t> columns{9, 8, 7, 6, 5,
                                   4, 3, 2, 1, 0};  // of the mask, which has as many; half of the scores'
  Mask mask({300, 10});
  prune_least(scores, 1000, columns, mask);
  EXPECT_EQ(mask.zeros(), 1000u);
  for (std::size_t r = 0; r < 300; ++r)
    for (std::size_t j = 0; j < 10; ++j) EXPECT_EQ(mask.kept(r, columns[j]), j % 2 == 1 || r >= 200) << r << " " << j;
}

TEST(Least, TakesWhatIsNotANumberLast) {
  std::vector<float> scores(40, NAN);
  scores[7] = 2;
  scores[31] = 1;
  std::vector<std::size_t> taken;
  for_least(scores, 3, [&](std::size_t i) { taken.push_back(i); });
  EXPECT_THAT(taken, testing::ElementsAre(0, 7, 31));
}

TEST(Magnitude, KeepsOtherWeightsAsTheyAre) {
  const MatrixF w = gaussian({16, 64}, 11);
  const MatrixD h = correlated_hessian(64, 11);
  for (const char* solver : {"magnitude", "wanda", "nowag-p"}) {
    const Solution solution = configured(solver)->solve(pruning_problem(w, h, "50%"))[0];
    const MatrixF values = solution.tensor->decode();
    EXPECT_EQ(mask_in(solution).zeros(), 512u);
    for (std::size_t r = 0; r < 16; ++r)
      for (std::size_t c = 0; c < 64; ++c)
        EXPECT_NEAR(values(r, c), mask_in(solution).kept(r, c) ? w(r, c) : 0, 2e-3) << solver;
  }
}

TEST(Magnitude, WandaLosesLessThanMagnitudeAndRestoringLosesLess) {
  double magnitude = 0, wanda = 0, restored = 0;
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    const MatrixF w = gaussian({16, 64}, seed);
    MatrixD h = correlated_hessian(64, seed);
    for (std::size_t i = 0; i < 64; ++i)  // inputs of uneven size
      for (std::size_t j = 0; j < 64; ++j)
        h(i, j) *= (1.0 + static_cast<double>(i % 8)) * (1.0 + static_cast<double>(j % 8));
    const auto loss = [&](const char* name, const char* options) {
      return configured(name, options)->solve(pruning_problem(w, h, "50%"))[0].report.loss;
    };
    magnitude += loss("magnitude", "{}");
    wanda += loss("wanda", "{}");
    restored += loss("wanda", "{ restore: true }");
  }
  EXPECT_LT(wanda, 0.8 * magnitude);
  EXPECT_LT(restored, 0.5 * wanda);
}

}  // namespace
}  // namespace adze
