// Pruning and quantization in one solve.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/parallel.h"
#include "masked_testing.h"
#include "solve/rows/rows.h"

namespace adze {
namespace {

Solution solve(const char* solver, const MatrixF& w, const MatrixD& h, const char* sparsity, const std::string& options,
               std::shared_ptr<const Grid> grid) {
  return configured(solver, options)->solve(pruning_problem(w, h, sparsity, std::move(grid)))[0];
}

double mean_loss(const char* solver, const std::string& options, const char* sparsity = "50%",
                 const char* grid = "int4 channel sym") {
  double sum = 0;
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    const MatrixF w = gaussian({16, 96}, seed);
    sum += solve(solver, w, correlated_hessian(96, seed), sparsity, options, grid_from_name(grid)).report.relative_loss;
  }
  return sum / 8;
}

TEST(Obr, TheReleasedFormReproducesTheGoldenRows) {
  // Row 0 prunes {2}, row 1 {0}; columns from 2 on make up for the others. The masks are those of one zero a row.
  const MatrixF w = golden_weights();
  const Solution solution =
      solve("obr", w, golden_hessian(), "25%", "{ form: released-rtn }", std::make_shared<FixedGrid>());
  const MatrixF values = solution.tensor->decode();
  EXPECT_THAT(pruned_columns(mask_in(solution), 0), testing::ElementsAre(2));
  const double damped_row0 = row_loss(w, values, damped(golden_hessian()), 0);
  EXPECT_THAT(std::vector<float>(values.row(0).begin(), values.row(0).end()),
              testing::ElementsAre(0.25f, -0.25f, 0.0f, 0.75f));
  EXPECT_NEAR(damped_row0, 0.412677, 1e-5);
}

TEST(Obr, FormsComeInTheOrderOfTheSpecification) {
  const double one_by_one = mean_loss("sparsegpt", "{ joint: false }");
  const double rounded = mean_loss("wanda", "{}");
  const double released_rtn = mean_loss("obr", "{ form: released-rtn }");
  const double released_gptq = mean_loss("obr", "{ form: released-gptq }");
  const double rows_alone = mean_loss("obr", "{ polish: 0 }");
  const double rows = mean_loss("obr", "{}");
  const double shared = mean_loss("obr", "{ form: shared }");
  EXPECT_LT(released_rtn, rounded);
  EXPECT_LT(released_gptq, released_rtn);
  EXPECT_LT(rows_alone, released_gptq);
  EXPECT_LT(rows, rows_alone);
  EXPECT_LT(shared, released_gptq);
  EXPECT_LT(rows, one_by_one);
}

TEST(Obr, EveryPatternAndGridKeepsItsZeros) {
  const MatrixF w = gaussian({24, 128}, 3);
  const MatrixD h = correlated_hessian(128, 3);
  for (const char* sparsity : {"50%", "2:4", "50% in blocks of 16", "25% in rows"})
    for (const char* grid : {"f16", "int4 g32 sym", "int4 g32 asym", "int3 channel sym", "gguf/q4_0"})
      for (const char* form : {"rows", "shared", "released-gptq"}) {
        const Solution solution =
            solve("obr", w, h, sparsity, std::string("{ form: ") + form + " }", value_grid_from_name(grid));
        EXPECT_EQ(pattern_problem(mask_in(solution), SparsityPattern::parse(sparsity)), std::nullopt);
        EXPECT_EQ(mask_of(solution.tensor->decode()).zeros() >= mask_in(solution).zeros(), true);
        EXPECT_EQ(solution.report.fallback, "") << grid << " " << form;
      }
}

TEST(Rows, WithoutAMaskAreOrdinaryGptq) {
  const MatrixF w = gaussian({16, 128}, 4);
  const MatrixD h = correlated_hessian(128, 4);
  const auto grid = grid_from_name("int4 g32 sym");
  Encoding encoding(grid, w.shape());
  ASSERT_TRUE(round_rows(w, to_float(damped(h)), ScaleRule::search, false, encoding));
  const MatrixF gptq =
      configured("gptq", "{ order: natural, polish: 0 }")->solve(make_problem(w, h, grid))[0].tensor->decode();
  const MatrixF rows = encoding.finish()->decode();
  std::size_t different = 0;
  for (std::size_t i = 0; i < rows.values().size(); ++i) different += rows.values()[i] != gptq.values()[i] ? 1 : 0;
  EXPECT_LT(different, rows.values().size() / 100);  // double here, single there: near ties only
}

TEST(Rows, LoseLessThanTheSharedFactorOnAMask) {
  EXPECT_LT(mean_loss("wanda", "{ restore: true, rounding: rows }"),
            mean_loss("wanda", "{ restore: true, rounding: shared }"));
}

TEST(Rows, GiveTheSameBytesForAnyNumberOfThreads) {
  const MatrixF w = gaussian({50, 128}, 6);
  const MatrixD h = correlated_hessian(128, 6);
  const auto bytes = [&] {
    const Solution solution = solve("obr", w, h, "50%", "{}", grid_from_name("int4 g32 sym"));
    return std::vector<std::byte>(solution.tensor->payload().begin(), solution.tensor->payload().end());
  };
  const auto expected = bytes();
  for (const int threads : {1, 2, 5}) {
    set_thread_count(threads);
    EXPECT_EQ(bytes(), expected) << threads;
  }
  set_thread_count(0);
}

TEST(Gqsa, PrunesWholeGroupsAndKeepsThem) {
  const MatrixF w = gaussian({24, 128}, 7);
  const MatrixD h = correlated_hessian(128, 7);
  for (const char* balance : {"row", "matrix"}) {
    const Solution solution = solve("gqsa", w, h, "50% in blocks of 16", std::string("{ balance: ") + balance + " }",
                                    grid_from_name("int4 g16 sym"));
    EXPECT_EQ(pattern_problem(mask_in(solution), SparsityPattern::blocks(0.5, 16)), std::nullopt);
    if (std::string_view(balance) == "row") {
      for (std::size_t r = 0; r < 24; ++r) EXPECT_EQ(mask_in(solution).kept_in_row(r), 64u);
    }
  }
}

TEST(Gqsa, LosesLessThanRoundingTheSameGroups) {
  const char* pattern = "50% in blocks of 16";
  EXPECT_LT(mean_loss("gqsa", "{}", pattern, "int4 g16 sym"), 0.5 * mean_loss("wanda", "{}", pattern, "int4 g16 sym"));
}

}  // namespace
}  // namespace adze
