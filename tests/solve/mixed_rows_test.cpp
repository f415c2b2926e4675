// Rows of different widths: the best of all choices that fit, and rows as the base makes them.
#include "solve/mixed_rows/mixed_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "grid/rows/mixed_rows_tensor.h"
#include "metrics/proxy_loss.h"
#include "solve_testing.h"

namespace adze {
namespace {

constexpr std::size_t kCols = 64;

/// Rows whose sizes differ as those of trained models do.
MatrixF uneven_rows(std::size_t rows, std::uint64_t seed) {
  MatrixF w = gaussian({rows, kCols}, seed);
  RandomStream random(seed, "sizes");
  for (std::size_t r = 0; r < rows; ++r) {
    const double size = std::exp(random.normal());
    for (float& value : w.row(r)) value *= static_cast<float>(size);
  }
  return w;
}

Solution solve(const char* solver, const MatrixF& w, const MatrixD& h, const char* grid,
               const std::string& options = "{}") {
  return configured(solver, options)->solve(make_problem(w, h, grid_from_name(grid)))[0];
}

const MixedRowsTensor& mixed(const Solution& solution) {
  return dynamic_cast<const MixedRowsTensor&>(*solution.tensor);
}

/// Every choice of widths for a few rows, with rows as GPTQ makes them in each width alone.
TEST(MixedRows, IsTheBestOfAllChoicesThatFit) {
  constexpr std::size_t kRows = 6;
  const std::vector<std::string> grids{"", "int2 g32 asym", "int3 g32 asym", "int4 g32 asym"};
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    const MatrixF w = uneven_rows(kRows, seed);
    const MatrixD h = correlated_hessian(kCols, seed);
    std::vector<std::vector<double>> losses;
    std::vector<std::uint64_t> bytes;
    for (const std::string& grid : grids) {
      const MatrixF values = grid.empty() ? MatrixF(w.shape()) : solve("gptq", w, h, grid.c_str()).tensor->decode();
      losses.push_back(row_losses(w, values, h));
      bytes.push_back(grid.empty() ? 0 : grid_from_name(grid)->row_bytes(kCols));
    }
    const std::uint64_t capacity = kRows * grid_from_name("int3 g32 asym")->row_bytes(kCols);
    double best = std::numeric_limits<double>::infinity();
    for (std::size_t code = 0; code < 4096; ++code) {
      double loss = 0;
      std::uint64_t cost = 0;
      for (std::size_t r = 0, rest = code; r < kRows; ++r, rest /= 4) {
        loss += losses[rest % 4][r];
        cost += bytes[rest % 4];
      }
      // Two bits for each of six rows say which it is.
      if (cost + 2 <= capacity) best = std::min(best, loss);
    }
    const Solution solution = solve("mixed-rows", w, h, "int3 g32 asym", "{ widths: \"0 2 3 4\" }");
    EXPECT_NEAR(solution.report.loss, best, 1e-9 * best) << seed;
    EXPECT_EQ(solution.tensor->bytes(), capacity);
  }
}

TEST(MixedRows, RowsAreThoseOfTheBaseInTheirWidth) {
  const MatrixF w = uneven_rows(96, 3);
  const MatrixD h = correlated_hessian(kCols, 3);
  for (const char* const base : {"gptq", "rtn"}) {
    const Solution solution =
        solve("mixed-rows", w, h, "int4 g32 sym", fmt::format("{{ widths: \"0 3 4 6\", base: {}, bits: 3.6 }}", base));
    const MatrixF values = solution.tensor->decode();
    const std::vector<MatrixF> widths{MatrixF(w.shape()), solve(base, w, h, "int3 g32 sym").tensor->decode(),
                                      solve(base, w, h, "int4 g32 sym").tensor->decode(),
                                      solve(base, w, h, "int6 g32 sym").tensor->decode()};
    std::set<int> used;
    for (std::size_t r = 0; r < w.rows(); ++r) {
      const std::uint8_t width = mixed(solution).grid_of()[r];
      used.insert(width);
      EXPECT_THAT(values.row(r), ::testing::ElementsAreArray(widths[width].row(r))) << r;
    }
    EXPECT_GT(used.size(), 2u);
    EXPECT_EQ(solution.tensor->bytes(), 96u * 28u);  // floor(3.6 * 64 / 8) bytes a row
  }
}

/// What it is for: less loss in the bytes of the grid where rows differ.
TEST(MixedRows, LosesLessThanOneWidthInTheSameBytes) {
  for (std::uint64_t seed = 0; seed < 3; ++seed) {
    const MatrixF w = uneven_rows(128, seed);
    const MatrixD h = correlated_hessian(kCols, seed);
    const Solution one = solve("gptq", w, h, "int3 g32 asym");
    const Solution many = solve("mixed-rows", w, h, "int3 g32 asym");
    EXPECT_EQ(many.tensor->bytes(), one.tensor->bytes());
    EXPECT_LT(many.report.loss, 0.6 * one.report.loss);
  }
}

TEST(MixedRows, MoreBitsNeverLoseMore) {
  const MatrixF w = uneven_rows(64, 1);
  const MatrixD h = correlated_hessian(kCols, 1);
  double before = solve("mixed-rows", w, h, "int4 g32 sym", "{ bits: 0.25 }").report.relative_loss;
  EXPECT_GT(before, 0.2);  // most rows are zero
  for (const double bits : {1.0, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0}) {
    const double loss =
        solve("mixed-rows", w, h, "int4 g32 sym", fmt::format("{{ bits: {} }}", bits)).report.relative_loss;
    EXPECT_LT(loss, before) << bits;
    before = loss;
  }
}

TEST(MixedRows, WithoutAHessianSquaredErrorsDecide) {
  const MatrixF w = uneven_rows(32, 2);
  Problem problem{{w.view()}, {}, grid_from_name("int4 g32 sym")};
  const Solution solution = configured("mixed-rows")->solve(problem)[0];
  const Solution one = configured("gptq")->solve(problem)[0];
  EXPECT_LT(solution.report.loss, one.report.loss);
}

}  // namespace
}  // namespace adze
