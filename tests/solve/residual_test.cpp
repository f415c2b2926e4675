// A base and a low rank that corrects it.
#include "solve/residual/residual.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/parallel.h"
#include "grid/factors/product_tensor.h"
#include "grid/factors/sum_tensor.h"
#include "grid/sparse/sparse_tensor.h"
#include "metrics/proxy_loss.h"
#include "solve/factors/low_rank.h"
#include "solve_testing.h"

namespace adze {
namespace {

using ::testing::HasSubstr;

Solution solve(const MatrixF& w, const MatrixD& h, const std::string& options, const char* grid = "int3 g32 sym",
               const char* sparsity = nullptr, const char* solver = "lowrank-residual") {
  Problem problem = make_problem(w, h, grid_from_name(grid));
  if (sparsity != nullptr) problem.pattern = SparsityPattern::parse(sparsity);
  return configured(solver, options)->solve(problem)[0];
}

double mean_loss(const std::string& options, const char* grid = "int3 g32 sym", const char* sparsity = nullptr,
                 const char* solver = "lowrank-residual") {
  double sum = 0;
  for (std::uint64_t seed = 0; seed < 4; ++seed)
    sum += solve(gaussian({96, 128}, seed), correlated_hessian(128, seed), options, grid, sparsity, solver)
               .report.relative_loss;
  return sum / 4;
}

TEST(LowRankResidual, FormsComeInTheOrderOfTheSpecification) {
  const double alone = mean_loss("{}", "int3 g32 sym", nullptr, "gptq");
  const double plain = mean_loss("{ rank: 16, iterations: 0, metric: none }");
  const double diagonal = mean_loss("{ rank: 16, iterations: 0, metric: diagonal }");
  const double one_shot = mean_loss("{ rank: 16, iterations: 0 }");
  const double once = mean_loss("{ rank: 16, iterations: 1 }");
  const double alternating = mean_loss("{ rank: 16 }");
  const double not_downdated = mean_loss("{ rank: 16, downdate: false }");
  EXPECT_LT(plain, alone);
  EXPECT_LT(one_shot, plain);
  EXPECT_LT(one_shot, diagonal);
  EXPECT_LT(once, one_shot);
  EXPECT_LE(alternating, once);
  EXPECT_LT(alternating, not_downdated);
}

/// Each iterate that is kept is the best so far.
TEST(LowRankResidual, MoreIterationsAreNeverWorse) {
  const MatrixF w = gaussian({64, 128}, 5);
  const MatrixD h = correlated_hessian(128, 5);
  double before = solve(w, h, "{ rank: 16, iterations: 1 }", "int2 g32 asym").report.loss;
  for (const char* const options :
       {"{ rank: 16, iterations: 2 }", "{ rank: 16, iterations: 4 }", "{ rank: 16, iterations: 8 }"}) {
    const double loss = solve(w, h, options, "int2 g32 asym").report.loss;
    EXPECT_LE(loss, before) << options;
    before = loss;
  }
}

/// The residual's tail is what is left, but for the rounding of factors to f16.
TEST(LowRankResidual, OneShotReachesTheTailOfTheResidual) {
  for (const Shape shape : {Shape{48, 96}, Shape{96, 64}}) {
    const MatrixF w = gaussian(shape, 6);
    const MatrixD h = correlated_hessian(shape.cols, 6);
    const MatrixF base = solve(w, h, "{ shift: 0 }", "int4 g32 sym", nullptr, "gptq").tensor->decode();
    MatrixD residual = to_double(w);
    for (std::size_t i = 0; i < residual.values().size(); ++i) residual.values()[i] -= base.values()[i];
    const double exact = tail(output_spectrum(residual, h, moment_root(h), 8).energy, 8);
    const Solution solution = solve(w, h, "{ rank: 8, iterations: 0 }", "int4 g32 sym");
    EXPECT_EQ(solution.tensor->format(), "int4 g32 sym + rank 8 [f16] [f16]");
    EXPECT_NEAR(solution.report.loss, exact, 1e-3 * exact);
    EXPECT_EQ(dynamic_cast<const SumTensor&>(*solution.tensor).base().decode(), base);
  }
}

TEST(LowRankResidual, CorrectsASparseBaseAndKeepsItsMask) {
  const double sparse = mean_loss("{}", "int4 g32 sym", "2:4", "sparsegpt");
  const double corrected = mean_loss("{ rank: 16 }", "int4 g32 sym", "2:4");
  EXPECT_LT(corrected, 0.7 * sparse);
  const Solution solution =
      solve(gaussian({96, 128}, 7), correlated_hessian(128, 7), "{ rank: 16, base: obr }", "int4 g32 sym", "2:4");
  EXPECT_EQ(solution.tensor->format(), "int4 g32 sym, 2:4 + rank 16 [f16] [f16]");
  const auto& base = dynamic_cast<const SparseTensor&>(dynamic_cast<const SumTensor&>(*solution.tensor).base());
  EXPECT_EQ(pattern_problem(base.mask(), SparsityPattern::n_of_m(2, 4)), std::nullopt);
}

TEST(LowRankResidual, FactorsMayBeOnAGridOfTheirOwn) {
  const double floats = mean_loss("{ rank: 16 }");
  const double eight = mean_loss("{ rank: 16, factors: int8 }");
  const double four = mean_loss("{ rank: 16, factors: int4 }");
  EXPECT_LT(eight, 1.1 * floats);
  EXPECT_LT(four, mean_loss("{}", "int3 g32 sym", nullptr, "gptq"));
  const Solution solution = solve(gaussian({96, 128}, 8), correlated_hessian(128, 8), "{ rank: 32, factors: int4 }");
  EXPECT_EQ(solution.tensor->format(), "int3 g32 sym + rank 32 [int4 g16 sym] [int4 g16 sym]");
}

TEST(LowRankResidual, AFullRankIsNoCorrection) {
  const MatrixF w = gaussian({16, 128}, 9);
  const MatrixD h = correlated_hessian(128, 9);
  const Solution solution = solve(w, h, "{ rank: 16 }");
  EXPECT_EQ(solution.tensor->format(), "int3 g32 sym");
  EXPECT_EQ(solution.tensor->decode(), solve(w, h, "{}", "int3 g32 sym", nullptr, "gptq").tensor->decode());
  EXPECT_THAT(configured("lowrank-residual", "{ rank: 16 }")->remark({{16, 128}, *grid_from_name("int3 g32 sym")}),
              HasSubstr("stored without one"));
}

TEST(LowRankResidual, CountsTheBasesWorkForEveryTime) {
  const ProblemSize size{128, 128 * 128, 128 * 128, true, false};
  const double once = configured("obr")->extra_operations(size);
  EXPECT_GT(once, 0);
  EXPECT_EQ(configured("lowrank-residual", "{ base: obr, iterations: 3 }")->extra_operations(size), 4 * once);
  EXPECT_EQ(configured("lowrank-residual", "{ base: gptq }")->extra_operations(size), 0);
}

TEST(LowRankResidual, RefusesWhatCannotBe) {
  for (const char* const options :
       {"{ rank: 0 }", "{ base: svd }", "{ base: lowrank-residual }", "{ base: gpttq }", "{ factors: f32 }",
        "{ factors: int9 }", "{ factor_group: 16 }", "{ iterations: -1 }", "{ keep: 0% }", "{ keep: 5%, rank: 8 }"})
    EXPECT_THROW(configured("lowrank-residual", options), Error) << options;
  const auto grid = grid_from_name("int4 g32 sym");
  const auto trouble = [&](const char* options, const SparsityPattern* pattern) {
    return configured("lowrank-residual", options)->cannot_make({{64, 64}, *grid, pattern}).value_or("");
  };
  const SparsityPattern half = SparsityPattern::unstructured(0.5);
  EXPECT_THAT(trouble("{ base: rtn }", &half), HasSubstr("base rtn makes no sparsity of 50%"));
  EXPECT_THAT(trouble("{ base: wanda }", nullptr), HasSubstr("base wanda prunes"));
  EXPECT_THAT(trouble("{ rank: 24, factors: int8, factor_group: 16 }", nullptr), HasSubstr("16"));
  EXPECT_EQ(trouble("{ rank: 24 }", &half), "");
}

TEST(LowRankResidual, GivesTheSameBytesForAnyThreadCount) {
  const MatrixF w = gaussian({200, 128}, 10);
  const MatrixD h = correlated_hessian(128, 10);
  const auto run = [&](int threads) {
    set_thread_count(threads);
    const Solution solution = solve(w, h, "{ rank: 16, iterations: 2 }");
    set_thread_count(0);
    return std::vector<std::byte>(solution.tensor->payload().begin(), solution.tensor->payload().end());
  };
  EXPECT_EQ(run(1), run(5));
}

}  // namespace
}  // namespace adze
