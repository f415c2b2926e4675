// ExactOBS as a solver: golden values, brute force, and against SparseGPT.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "base/parallel.h"
#include "masked_testing.h"

namespace adze {
namespace {

Solution solve(const MatrixF& w, const MatrixD& h, const char* sparsity,
               std::shared_ptr<const Grid> grid = make_float_grid(DType::f16), const std::string& options = "{}",
               const char* solver = "obq") {
  return configured(solver, options)->solve(pruning_problem(w, h, sparsity, std::move(grid)))[0];
}

double damped_loss(const MatrixF& w, const MatrixD& h, const Solution& solution) {
  return loss_of(w, solution.tensor->decode(), damped(h));
}

TEST(Obq, ReproducesTheGoldenCodes) {
  const MatrixF w = golden_weights();
  const Solution solution =
      configured("obq")->solve(make_problem(w, golden_hessian(), std::make_shared<FixedGrid>()))[0];
  const MatrixF values = solution.tensor->decode();
  const float expected[] = {0.5f, -0.25f, 0.25f, 0.75f, -0.5f, 0.5f, -0.75f, 0.25f};
  EXPECT_THAT(std::vector<float>(values.values().begin(), values.values().end()), testing::ElementsAreArray(expected));
  EXPECT_NEAR(damped_loss(w, golden_hessian(), solution), 0.28251950, 1e-6);
}

/// The least loss that any mask of `pruned` zeros in one row allows.
double best_mask_loss(const MatrixF& w, const MatrixD& h, int pruned) {
  double best = INFINITY;
  for (unsigned subset = 0; subset < 1u << w.cols(); ++subset) {
    if (std::popcount(subset) != pruned) continue;
    Mask mask(w.shape());
    for (std::size_t c = 0; c < w.cols(); ++c)
      if ((subset >> c & 1) != 0) mask.prune(0, c);
    best = std::min(best, loss_of(w, masked_least_squares(w, h, mask), h));
  }
  return best;
}

TEST(Obq, PrunesNearlyAsWellAsBruteForce) {
  double brute = 0, greedy = 0, sparsegpt = 0;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const MatrixF w = gaussian({1, 8}, seed);
    const MatrixD h = correlated_hessian(8, seed);
    const double best = best_mask_loss(w, damped(h), 4);
    const double ours = damped_loss(w, h, solve(w, h, "50%"));
    EXPECT_GE(ours, best * (1 - 1e-3));
    brute += best;
    greedy += ours;
    sparsegpt += damped_loss(w, h, solve(w, h, "50%", make_float_grid(DType::f16), "{}", "sparsegpt"));
  }
  EXPECT_LT(greedy, 1.5 * brute);
  EXPECT_LT(greedy, sparsegpt);
}

TEST(Obq, LosesNoMoreThanSparseGptOnAnyLayer) {
  for (const char* sparsity : {"50%", "2:4", "70%"})
    for (std::uint64_t seed = 0; seed < 6; ++seed) {
      const MatrixF w = gaussian({24, 128}, seed);
      const MatrixD h = correlated_hessian(128, seed);
      const double sparsegpt = solve(w, h, sparsity, make_float_grid(DType::f16), "{}", "sparsegpt").report.loss;
      EXPECT_LE(solve(w, h, sparsity).report.loss, sparsegpt) << sparsity << " " << seed;
    }
}

TEST(Obq, MakesEveryPatternItTakes) {
  const MatrixF w = gaussian({20, 96}, 3);
  const MatrixD h = correlated_hessian(96, 3);
  for (const char* sparsity : {"50%", "33.3%", "2:4", "1:4", "50% in blocks of 8"})
    for (const char* grid : {"f16", "int4 g32 sym"}) {
      const Solution solution = solve(w, h, sparsity, value_grid_from_name(grid));
      EXPECT_EQ(pattern_problem(mask_in(solution), SparsityPattern::parse(sparsity)), std::nullopt) << sparsity;
      EXPECT_EQ(solution.report.fallback, "");
    }
}

TEST(Obq, RowsThatHaveLessToLoseKeepMore) {
  MatrixF w = gaussian({2, 64}, 4);
  for (float& value : w.row(1)) value *= 10;
  const Mask mask = mask_in(solve(w, correlated_hessian(64, 4), "50%"));
  EXPECT_LT(mask.kept_in_row(0) * 2, mask.kept_in_row(1));
}

TEST(Obq, RoundsBetterThanNearestOnAverageAndLeavesTheMask) {
  double obq = 0, nearest = 0;
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    const MatrixF w = gaussian({16, 64}, seed);
    const MatrixD h = correlated_hessian(64, seed);
    obq += solve(w, h, "50%", grid_from_name("int4 channel sym")).report.loss;
    nearest += solve(w, h, "50%", grid_from_name("int4 channel sym"), "{ restore: true }", "wanda").report.loss;
  }
  EXPECT_LT(obq, 0.7 * nearest);
}

TEST(Obq, GivesTheSameBytesForAnyNumberOfThreads) {
  const MatrixF w = gaussian({50, 96}, 6);
  const MatrixD h = correlated_hessian(96, 6);
  const auto bytes = [&] {
    const Solution solution = solve(w, h, "50%", grid_from_name("int4 g32 sym"));
    return std::vector<std::byte>(solution.tensor->payload().begin(), solution.tensor->payload().end());
  };
  const auto expected = bytes();
  for (const int threads : {1, 2, 5}) {
    set_thread_count(threads);
    EXPECT_EQ(bytes(), expected) << threads;
  }
  set_thread_count(0);
}

}  // namespace
}  // namespace adze
