#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/parallel.h"
#include "masked_testing.h"
#include "metrics/proxy_loss.h"
#include "solve/gptq/factor.h"
#include "solve/gptq/mask_choice.h"
#include "solve/masks/mask_rules.h"

namespace adze {
namespace {

Solution prune(const MatrixF& w, const MatrixD& h, const char* sparsity, const char* options = "{}",
               std::shared_ptr<const Grid> grid = make_float_grid(DType::f16)) {
  return configured("sparsegpt", options)->solve(pruning_problem(w, h, sparsity, std::move(grid)))[0];
}

GptqFactor natural_factor(const MatrixD& h) {
  GptqOptions options;
  options.order = ColumnOrder::natural;
  return factor_hessian(h, options, h.rows());
}

TEST(SparseGpt, ScoresReproduceTheGoldenExample) {
  // w^2 / U_jj^2 of the first column's turn, when nothing has moved yet.
  const double expected[2][4] = {{0.091561, 2.074450, 0.130264, 6.711750}, {0.072053, 2.933627, 2.142516, 0.547898}};
  const GptqFactor factor = natural_factor(golden_hessian());
  for (std::size_t r = 0; r < 2; ++r)
    for (std::size_t c = 0; c < 4; ++c) {
      const double w = golden_weights()(r, c);
      // Of the last column only, U_jj is that of the factor; earlier ones count what later columns can make up for.
      EXPECT_NEAR(w * w * factor.importance[c] / factor.unit / expected[r][c], 1, 1e-4) << r << " " << c;
    }
}

TEST(SparseGpt, ReproducesTheGoldenTwoOfFour) {
  const MatrixF w = golden_weights();
  const Solution solution = prune(w, golden_hessian(), "2:4", "{ enumerate: false }");
  EXPECT_THAT(pruned_columns(mask_in(solution), 0), testing::ElementsAre(0, 2));
  EXPECT_THAT(pruned_columns(mask_in(solution), 1), testing::ElementsAre(0, 3));
  const double expected[2][4] = {{0, -0.055596, 0, 0.866964}, {0, 0.161093, -0.560900, 0}};
  const MatrixF values = solution.tensor->decode();
  for (std::size_t r = 0; r < 2; ++r)
    for (std::size_t c = 0; c < 4; ++c) EXPECT_NEAR(values(r, c), expected[r][c], 5e-4);
  EXPECT_NEAR(loss_of(w, values, damped(golden_hessian())), 0.85685935, 2e-3);
}

TEST(SparseGpt, LeastSquaresOnTheSameMaskLosesLess) {
  const MatrixF w = golden_weights();
  const MatrixD h = damped(golden_hessian());
  const Solution solution = prune(w, golden_hessian(), "2:4", "{ enumerate: false }");
  EXPECT_NEAR(loss_of(w, masked_least_squares(w, h, mask_in(solution)), h), 0.47930212, 1e-5);
  // Polish on floats is Gauss-Seidel towards it.
  const Solution polished = prune(w, golden_hessian(), "2:4", "{ enumerate: false, polish: 100 }");
  EXPECT_EQ(mask_in(polished), mask_in(solution));
  EXPECT_NEAR(loss_of(w, polished.tensor->decode(), h), 0.47930212, 1e-3);
}

TEST(SparseGpt, TryingAllSubsetsFindsBetterOnesThanScores) {
  // On the golden example: 0.5573 in place of 0.8569.
  EXPECT_LT(loss_of(golden_weights(), prune(golden_weights(), golden_hessian(), "2:4").tensor->decode(),
                    damped(golden_hessian())),
            0.56);
  double best = 0, scored = 0;
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    const MatrixF w = gaussian({24, 128}, seed);
    const MatrixD h = correlated_hessian(128, seed);
    best += prune(w, h, "2:4").report.loss;
    scored += prune(w, h, "2:4", "{ enumerate: false }").report.loss;
  }
  EXPECT_LT(best, scored);
}

TEST(SparseGpt, MakesEveryPatternItTakes) {
  const MatrixF w = gaussian({70, 384}, 1);
  const MatrixD h = correlated_hessian(384, 1);
  for (const char* sparsity : {"50%", "33.3%", "2:4", "4:8", "1:4", "3:6"}) {
    const SparsityPattern pattern = SparsityPattern::parse(sparsity);
    for (const char* grid : {"f16", "int4 g64 sym", "int4 channel sym", "int4 g128 asym"}) {
      const Solution solution = prune(w, h, sparsity, "{}", value_grid_from_name(grid));
      EXPECT_EQ(pattern_problem(mask_in(solution), pattern), std::nullopt) << sparsity << " " << grid;
      EXPECT_EQ(solution.tensor->format(), std::string(grid) + ", " + sparsity);
      EXPECT_LT(solution.report.relative_loss, 0.7) << sparsity << " " << grid;
    }
  }
}

TEST(SparseGpt, WithoutSparsityOnlyRoundsToFloats) {
  const MatrixF w = gaussian({8, 256}, 2);
  const MatrixF values = prune(w, correlated_hessian(256, 2), "0%").tensor->decode();
  for (std::size_t i = 0; i < w.values().size(); ++i) EXPECT_NEAR(values.values()[i], w.values()[i], 4e-3);
}

TEST(SparseGpt, WithEqualIndependentInputsIsMagnitudeInEachBlockOfColumns) {
  const MatrixF w = gaussian({32, 256}, 3);
  MatrixD h(256, 256);
  for (std::size_t i = 0; i < 256; ++i) h(i, i) = 5;
  const Solution solution = prune(w, h, "50%");
  Mask expected(w.shape());
  for (std::size_t first = 0; first < 256; first += 128) {
    MatrixF block(32, 128);
    for (std::size_t r = 0; r < 32; ++r)
      for (std::size_t c = 0; c < 128; ++c) block(r, c) = w(r, first + c);
    const Mask mask = choose_mask(magnitude_scores(block), SparsityPattern::unstructured(0.5), Competition::matrix);
    for (std::size_t r = 0; r < 32; ++r)
      for (const std::size_t c : pruned_columns(mask, r)) expected.prune(r, first + c);
  }
  EXPECT_EQ(mask_in(solution), expected);
  const MatrixF values = solution.tensor->decode();
  for (std::size_t r = 0; r < 32; ++r)
    for (std::size_t c = 0; c < 256; ++c) EXPECT_NEAR(values(r, c), expected.kept(r, c) ? w(r, c) : 0, 2e-3);
}

TEST(SparseGpt, LosesLessThanWandaAndWandaLessThanMagnitude) {
  for (const char* sparsity : {"50%", "2:4"}) {
    double sparsegpt = 0, wanda = 0;
    for (std::uint64_t seed = 0; seed < 8; ++seed) {
      const MatrixF w = gaussian({24, 128}, seed);
      const MatrixD h = correlated_hessian(128, seed);
      sparsegpt += prune(w, h, sparsity).report.loss;
      wanda += configured("wanda")->solve(pruning_problem(w, h, sparsity))[0].report.loss;
    }
    EXPECT_LT(sparsegpt, 0.7 * wanda) << sparsity;
  }
}

TEST(SparseGpt, OnAFineGridPrunesAsItDoesOnFloats) {
  const MatrixF w = gaussian({16, 128}, 5);
  const MatrixD h = correlated_hessian(128, 5);
  const Solution floats = prune(w, h, "2:4");
  const Solution fine = prune(w, h, "2:4", "{}", std::make_shared<FixedGrid>(1e-4f, -32768.0f, 32767.0f));
  std::size_t different = 0;
  for (std::size_t r = 0; r < 16; ++r)
    for (std::size_t c = 0; c < 128; ++c) different += mask_in(floats).kept(r, c) != mask_in(fine).kept(r, c) ? 1 : 0;
  EXPECT_LT(different, 16u * 128 / 50);
}

TEST(SparseGpt, JointOrOneAfterTheOtherKeepsZerosOnTheGrid) {
  const MatrixF w = gaussian({32, 256}, 6);
  const MatrixD h = correlated_hessian(256, 6);
  for (const char* options : {"{}", "{ joint: false }", "{ polish: 3 }", "{ joint: false, polish: 2, refit: false }"}) {
    const Solution solution = prune(w, h, "50%", options, grid_from_name("int4 g64 sym"));
    const MatrixF values = solution.tensor->decode();
    for (std::size_t r = 0; r < 32; ++r)
      for (std::size_t c = 0; c < 256; ++c)
        if (!mask_in(solution).kept(r, c)) {
          ASSERT_EQ(values(r, c), 0.0f) << options;
        }
    EXPECT_NEAR(proxy_loss(w, values, h) / solution.report.loss, 1, 1e-9);
  }
}

TEST(SparseGpt, PolishNeverLosesMoreAndKeepsTheMask) {
  for (const char* grid : {"f16", "int4 g32 sym", "int4 g32 asym", "gguf/q4_0"})
    for (std::uint64_t seed = 0; seed < 4; ++seed) {
      const MatrixF w = gaussian({20, 128}, seed);
      const MatrixD h = correlated_hessian(128, seed);
      const Solution before = prune(w, h, "50%", "{}", value_grid_from_name(grid));
      const Solution after = prune(w, h, "50%", "{ polish: 3 }", value_grid_from_name(grid));
      EXPECT_EQ(mask_in(after), mask_in(before));
      EXPECT_LT(after.report.loss, before.report.loss) << grid;
    }
}

TEST(SparseGpt, DeadInputsArePrunedFirst) {
  const MatrixF w = gaussian({8, 128}, 7);
  MatrixD h = correlated_hessian(128, 7);
  for (std::size_t i = 0; i < 128; ++i)
    for (const std::size_t dead : {3u, 77u}) h(i, dead) = h(dead, i) = 0;
  const Solution solution = prune(w, h, "25%");
  EXPECT_EQ(solution.report.dead_inputs, 2u);
  for (std::size_t r = 0; r < 8; ++r) {
    EXPECT_FALSE(mask_in(solution).kept(r, 3));
    EXPECT_FALSE(mask_in(solution).kept(r, 77));
  }
}

TEST(SparseGpt, GivesTheSameBytesForAnyNumberOfThreads) {
  const MatrixF w = gaussian({600, 256}, 8);
  const MatrixD h = correlated_hessian(256, 8);
  for (const char* sparsity : {"50%", "2:4"}) {
    const auto bytes = [&] {
      const Solution solution = prune(w, h, sparsity, "{ polish: 1 }", grid_from_name("int4 g64 sym"));
      return std::vector<std::byte>(solution.tensor->payload().begin(), solution.tensor->payload().end());
    };
    set_thread_count(1);
    const auto expected = bytes();
    for (const int threads : {2, 5}) {
      set_thread_count(threads);
      EXPECT_EQ(bytes(), expected) << sparsity << ", " << threads << " threads";
    }
    set_thread_count(0);
  }
}

TEST(SubsetChoice, IsTheBestOfAllSubsetsByBruteForce) {
  const MatrixD h = correlated_hessian(12, 9);
  const GptqFactor factor = natural_factor(h);
  const SubsetChoice choice(factor, 4, true);
  const MatrixF w = gaussian({1, 12}, 9);
  // The last group has no columns after it: what a subset costs is least squares inside the group.
  const auto group = std::span<const float>(w.values()).subspan(8, 4);
  const std::uint32_t kept = choice.choose(8, group, 2);
  MatrixD tail(4, 4);
  MatrixF tail_weights(1, 4);
  const MatrixD all = damped(h);
  for (std::size_t i = 0; i < 4; ++i) {
    tail_weights(0, i) = group[i];
    for (std::size_t j = 0; j < 4; ++j) tail(i, j) = all(8 + i, 8 + j);
  }
  // As elimination goes from left to right, a pruned weight is made up for by later members, kept or pruned.
  const auto loss = [&](std::uint32_t subset) {
    Eigen::Matrix4d m;
    for (int i = 0; i < 4; ++i)
      for (int j = 0; j < 4; ++j) m(i, j) = tail(static_cast<std::size_t>(i), static_cast<std::size_t>(j));
    Eigen::RowVector4d left(group[0], group[1], group[2], group[3]);
    double sum = 0;
    for (int j = 0; j < 4; ++j) {
      if ((subset >> j & 1) != 0) continue;
      const Eigen::MatrixXd inverse = m.bottomRightCorner(4 - j, 4 - j).inverse();
      sum += left(j) * left(j) / inverse(0, 0);
      left.tail(4 - j) -= left(j) / inverse(0, 0) * inverse.row(0);
    }
    return sum;
  };
  for (std::uint32_t other = 0; other < 16; ++other)
    if (__builtin_popcount(other) == 2) {
      EXPECT_GE(loss(other), loss(kept) * (1 - 1e-4)) << other;
    }
}

TEST(SparseGpt, RefusesAnAllZeroH) { EXPECT_THROW(prune(gaussian({4, 16}, 1), MatrixD(16, 16), "50%"), Error); }

}  // namespace
}  // namespace adze
