#include "solve/gptq/gptq.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "base/parallel.h"
#include "grid/quantized_tensor.h"
#include "masked_testing.h"
#include "metrics/proxy_loss.h"
#include "solve/gptq/factor.h"

namespace adze {
namespace {

std::vector<int> codes_of(const Solution& solution) {
  const MatrixF values = solution.tensor->decode();
  std::vector<int> codes;
  for (const float v : values.values()) codes.push_back(static_cast<int>(std::lround(v / 0.25f)));
  return codes;
}

TEST(Gptq, ReproducesTheGoldenExample) {
  const MatrixF w = golden_weights();
  const MatrixD h = golden_hessian();
  const auto solution =
      configured("gptq", "{ order: natural, polish: 0 }")->solve(make_problem(w, h, std::make_shared<FixedGrid>()));
  EXPECT_THAT(codes_of(solution[0]), testing::ElementsAre(2, -1, 1, 3, -2, 2, -2, 0));
  EXPECT_NEAR(solution[0].report.loss, 0.35810000, 1e-6);
}

TEST(Rtn, ReproducesTheGoldenExample) {
  const MatrixF w = golden_weights();
  const MatrixD h = golden_hessian();
  const auto solution = configured("rtn")->solve(make_problem(w, h, std::make_shared<FixedGrid>()));
  EXPECT_THAT(codes_of(solution[0]), testing::ElementsAre(2, -1, 1, 3, -2, 2, -3, 1));
  EXPECT_NEAR(solution[0].report.loss, 0.27560000, 1e-6);
}

TEST(GptqFactor, ReproducesTheGoldenFactor) {
  const GptqFactor factor = factor_hessian(golden_hessian(), {0.01, ColumnOrder::natural, false, ScaleRule::search}, 4);
  const double expected[4][4] = {{0.488050, 1.973998, -1.687234, -0.351256},
                                 {0, 3.892689, -2.111503, 0.702512},
                                 {0, 0, 2.005115, 1.756279},
                                 {0, 0, 0, 2.846928}};
  for (std::size_t i = 0; i < 4; ++i)
    for (std::size_t j = 0; j < 4; ++j) EXPECT_NEAR(factor.r(i, j) / std::sqrt(factor.unit), expected[i][j], 1e-5);
}

/// The classic, right-looking recursion in double with the explicit inverse (GPTQ's form A), one fixed step.
/// Returns values and adds up sum e^2.
Eigen::MatrixXd classic_gptq(Eigen::MatrixXd w, Eigen::MatrixXd h, double damp, double step, double lo, double hi,
                             double& damped_loss) {
  h.diagonal().array() += damp * h.diagonal().mean();
  const Eigen::MatrixXd u = h.inverse().llt().matrixU();
  damped_loss = 0;
  for (Eigen::Index j = 0; j < w.cols(); ++j) {
    const Eigen::VectorXd q = (w.col(j) / step).array().rint().min(hi).max(lo) * step;
    const Eigen::VectorXd e = (w.col(j) - q) / u(j, j);
    for (Eigen::Index k = j; k < w.cols(); ++k) w.col(k) -= e * u(j, k);
    w.col(j) = q;
    damped_loss += e.squaredNorm();
  }
  return w;
}

Eigen::MatrixXd eigen(ConstViewF m) {
  Eigen::MatrixXd e(m.rows(), m.cols());
  for (std::size_t i = 0; i < m.rows(); ++i)
    for (std::size_t j = 0; j < m.cols(); ++j)
      e(static_cast<Eigen::Index>(i), static_cast<Eigen::Index>(j)) = double{m(i, j)};
  return e;
}

TEST(Gptq, AgreesWithTheClassicFormAndItsLossIdentity) {
  const MatrixF w = gaussian({130, 192}, 3);
  const MatrixD h = correlated_hessian(192, 4);
  const auto grid = std::make_shared<FixedGrid>(0.35f, -8, 7);
  const auto solution = configured("gptq", "{ order: natural, polish: 0 }")->solve(make_problem(w, h, grid));
  double damped_loss = 0;
  const Eigen::MatrixXd expected = classic_gptq(eigen(w.view()), eigen(h.view()), 0.01, 0.35f, -8, 7, damped_loss);
  const Eigen::MatrixXd got = eigen(solution[0].tensor->decode().view());
  const auto differing = ((expected - got).array().abs() > 0.1).count();
  EXPECT_LT(static_cast<double>(differing), 0.005 * 130 * 192) << "single against double precision";
  // J_d = J + lambda |D|_F^2 equals sum e^2.
  const double lambda = 0.01 * eigen(h.view()).diagonal().mean();
  const double j_d = solution[0].report.loss + lambda * (eigen(w.view()) - got).squaredNorm();
  EXPECT_NEAR(j_d / damped_loss, 1.0, 0.01);
}

TEST(Gptq, EqualsRoundingToNearestWhenInputsAreUncorrelated) {
  const MatrixF w = gaussian({70, 256}, 5);
  MatrixD h(256, 256);
  RandomStream random(6, "diagonal");
  for (std::size_t j = 0; j < 256; ++j) h(j, j) = 0.5 + random.uniform();
  for (const char* name : {"int4 g32 sym", "gguf/q4_0", "int3 channel asym"}) {
    const Problem problem = make_problem(w, h, grid_from_name(name));
    // Without damping the importance of a column is H_jj in both.
    const auto gptq = configured("gptq", "{ damp: 0, polish: 0 }")->solve(problem);
    const auto rtn = configured("rtn")->solve(problem);
    EXPECT_NEAR(gptq[0].report.loss / rtn[0].report.loss, 1.0, 2e-3) << name;
  }
}

TEST(Gptq, DoesNotDependOnTheScaleOfH) {
  const MatrixF w = gaussian({64, 256}, 7);
  MatrixD h = correlated_hessian(256, 8);
  for (std::size_t j = 0; j < 256; ++j) h(5, j) = h(j, 5) = 0;  // a dead input
  const auto solver = configured("gptq");
  for (const char* name : {"int4 g32 sym", "int4 g32 asym", "gguf/q3_k", "gguf/q4_k", "gguf/iq4_xs"}) {
    const auto grid = grid_from_name(name);
    const auto expected = solver->solve(make_problem(w, h, grid))[0];
    for (const int exponent : {-150, -140, -20, 11, 120, 130, 150}) {  // beyond single precision on both sides
      MatrixD scaled = h;
      for (double& v : scaled.values()) v = std::ldexp(v, exponent);
      const auto solution = solver->solve(make_problem(w, scaled, grid))[0];
      EXPECT_THAT(solution.tensor->payload(), testing::ElementsAreArray(expected.tensor->payload()))
          << name << " " << exponent;
      EXPECT_NEAR(solution.report.relative_loss, expected.report.relative_loss, 1e-9);
    }
  }
}

TEST(Gptq, RoundsDeadInputsAndLeavesTheOthersAlone) {
  MatrixF w = gaussian({64, 128}, 9);
  MatrixD h = correlated_hessian(128, 10);
  for (std::size_t j = 0; j < 128; ++j) h(77, j) = h(j, 77) = 0;
  const auto grid = std::make_shared<FixedGrid>(0.3f, -8, 7);
  const auto solver = configured("gptq");
  const auto first = solver->solve(make_problem(w, h, grid));
  EXPECT_EQ(first[0].report.dead_inputs, 1u);
  const MatrixF before = first[0].tensor->decode();
  for (std::size_t r = 0; r < 64; ++r) EXPECT_NEAR(before(r, 77), std::clamp(w(r, 77), -2.4f, 2.1f), 0.1501f);
  for (std::size_t r = 0; r < 64; ++r) w(r, 77) = 0.9f;
  const MatrixF after = solver->solve(make_problem(w, h, grid))[0].tensor->decode();
  for (std::size_t r = 0; r < 64; ++r)
    for (std::size_t c = 0; c < 128; ++c) {
      if (c == 77) continue;
      ASSERT_EQ(after(r, c), before(r, c));
    }
}

TEST(Gptq, InActivationOrderEqualsNaturalOrderOfPermutedColumns) {
  const MatrixF w = gaussian({64, 96}, 11);
  const MatrixD h = correlated_hessian(96, 12);
  std::vector<std::size_t> order(96);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return h(a, a) > h(b, b); });
  MatrixF w_permuted(64, 96);
  MatrixD h_permuted(96, 96);
  for (std::size_t p = 0; p < 96; ++p) {
    for (std::size_t r = 0; r < 64; ++r) w_permuted(r, p) = w(r, order[p]);
    for (std::size_t q = 0; q < 96; ++q) h_permuted(p, q) = h(order[p], order[q]);
  }
  const auto grid = std::make_shared<FixedGrid>(0.3f, -8, 7);
  const MatrixF activation =
      configured("gptq", "{ order: activation, polish: 0 }")->solve(make_problem(w, h, grid))[0].tensor->decode();
  const MatrixF natural = configured("gptq", "{ order: natural, polish: 0 }")
                              ->solve(make_problem(w_permuted, h_permuted, grid))[0]
                              .tensor->decode();
  for (std::size_t r = 0; r < 64; ++r)
    for (std::size_t p = 0; p < 96; ++p) ASSERT_EQ(natural(r, p), activation(r, order[p]));
}

TEST(Gptq, VisitsWholeUnitsInGroupOrder) {
  const MatrixD h = correlated_hessian(512, 13);
  const GptqFactor factor = factor_hessian(h, {0.01, ColumnOrder::group, false, ScaleRule::search}, 128);
  std::vector<std::size_t> sorted = factor.order;
  std::ranges::sort(sorted);
  for (std::size_t p = 0; p < 512; ++p) ASSERT_EQ(sorted[p], p);
  double largest_before = std::numeric_limits<double>::infinity();
  for (std::size_t p = 0; p < 512; ++p) {
    EXPECT_EQ(factor.order[p] / 128, factor.order[p - p % 128] / 128);
    const double diagonal = h(factor.order[p], factor.order[p]);
    if (p % 128 == 0) {
      EXPECT_LE(diagonal, largest_before);
      largest_before = diagonal;
    } else {
      EXPECT_LE(diagonal, h(factor.order[p - 1], factor.order[p - 1]));
    }
  }
}

TEST(Gptq, IsBetterThanRoundingOnAverageOverCorrelatedProblems) {
  for (const char* name : {"int2 g64 asym", "int3 g64 sym", "int4 g64 sym", "gguf/q4_0", "gguf/q4_k", "gguf/q8_0"}) {
    double ratio = 0;
    constexpr int kProblems = 4;
    for (int i = 0; i < kProblems; ++i) {
      const MatrixF w = gaussian({64, 256}, 20 + i, 0.05);
      const MatrixD h = correlated_hessian(256, 40 + i);
      const Problem problem = make_problem(w, h, grid_from_name(name));
      ratio += configured("gptq")->solve(problem)[0].report.loss / configured("rtn")->solve(problem)[0].report.loss;
    }
    EXPECT_LT(ratio / kProblems, 0.6) << name;
  }
}

/// Least J over every combination of codes of one row.
double brute_force(const Eigen::RowVectorXd& w, const Eigen::MatrixXd& h, double step, int lo, int hi) {
  const auto n = static_cast<std::size_t>(w.size());
  std::vector<int> codes(n, lo);
  double best = std::numeric_limits<double>::infinity();
  while (true) {
    Eigen::RowVectorXd d = w;
    for (std::size_t c = 0; c < n; ++c) d[static_cast<Eigen::Index>(c)] -= step * codes[c];
    best = std::min(best, (d * h * d.transpose()).value());
    std::size_t c = 0;
    while (c < n && codes[c] == hi) codes[c++] = lo;
    if (c == n) return best;
    ++codes[c];
  }
}

TEST(Gptq, LiesBetweenBruteForceAndRoundingOnAverage) {
  double brute = 0;
  double gptq = 0;
  double rtn = 0;
  const auto grid = std::make_shared<FixedGrid>(0.5f, -2, 1);
  for (int seed = 0; seed < 60; ++seed) {
    const MatrixF w = gaussian({1, 5}, 100 + seed, 0.6);
    const MatrixD h = correlated_hessian(5, 200 + seed);
    const Problem problem = make_problem(w, h, grid);
    const double least = brute_force(eigen(w.view()), eigen(h.view()), 0.5, -2, 1);
    const double loss = configured("gptq")->solve(problem)[0].report.loss;
    EXPECT_GE(loss, least * (1 - 1e-6));
    brute += least;
    gptq += loss;
    rtn += configured("rtn")->solve(problem)[0].report.loss;
  }
  EXPECT_LT(brute, gptq);
  EXPECT_LT(gptq, rtn);
}

TEST(Gptq, FactorsARankDeficientH) {
  const MatrixF w = gaussian({64, 128}, 14);
  const MatrixD h = correlated_hessian(128, 15, /*tokens=*/40);
  const auto solution = configured("gptq")->solve(make_problem(w, h, grid_from_name("int4 g32 sym")));
  EXPECT_TRUE(std::isfinite(solution[0].report.loss));
  EXPECT_EQ(solution[0].report.damping, 0.01);
  EXPECT_EQ(solution[0].report.fallback, "");
}

TEST(Gptq, RaisesTheDampingAndSaysSo) {
  const MatrixF w = gaussian({64, 32}, 16);
  MatrixD h = correlated_hessian(32, 17);
  double mean = 0;
  for (std::size_t j = 0; j < 32; ++j) mean += h(j, j) / 32;
  // One direction of slightly negative curvature, as rounding errors of a broken accumulation would leave it.
  for (std::size_t j = 0; j < 32; ++j) h(0, j) = h(j, 0) = h(1, j) = h(j, 1) = 0;
  h(0, 0) = h(1, 1) = mean;
  h(0, 1) = h(1, 0) = 1.05 * mean;
  const auto solution = configured("gptq")->solve(make_problem(w, h, grid_from_name("int4 g32 sym")));
  EXPECT_GT(solution[0].report.damping, 0.01);
  EXPECT_THAT(solution[0].report.fallback, testing::HasSubstr("damping raised"));
}

TEST(Gptq, FallsBackToRoundingWhenHCannotBeFactoredAndSaysSo) {
  const MatrixF w = gaussian({4, 32}, 18);
  MatrixD h(32, 32);
  for (std::size_t i = 0; i < 32; ++i)
    for (std::size_t j = 0; j < 32; ++j) h(i, j) = i == j ? 1.0 : 50.0;
  const Problem problem = make_problem(w, h, grid_from_name("int4 g32 sym"));
  const auto solution = configured("gptq")->solve(problem);
  EXPECT_THAT(solution[0].report.fallback, testing::HasSubstr("rounded to nearest"));
  EXPECT_THAT(solution[0].tensor->payload(),
              testing::ElementsAreArray(configured("rtn")->solve(problem)[0].tensor->payload()));
}

TEST(Gptq, GivesDeadInputsNoSayInTheirGroupsScales) {
  MatrixF w = gaussian({64, 128}, 30, 0.05);
  MatrixD h = correlated_hessian(128, 31);
  for (std::size_t dead = 3; dead < 128; dead += 32) {
    for (std::size_t j = 0; j < 128; ++j) h(dead, j) = h(j, dead) = 0;
    for (std::size_t r = 0; r < 64; ++r) w(r, dead) = 2.0f;  // forty times the others
  }
  const auto grid = grid_from_name("int4 g32 sym");
  const double with_large = configured("gptq")->solve(make_problem(w, h, grid))[0].report.loss;
  for (std::size_t dead = 3; dead < 128; dead += 32)
    for (std::size_t r = 0; r < 64; ++r) w(r, dead) = 0.0f;
  const double without = configured("gptq")->solve(make_problem(w, h, grid))[0].report.loss;
  EXPECT_NEAR(with_large / without, 1.0, 1e-6);
}

TEST(Gptq, FallsBackWhenFeedbackOverflowsAndSaysSo) {
  MatrixF w(64, 128);  // finite, but far beyond the grid: their errors add up to more than a float holds
  RandomStream random(32, "huge");
  for (float& value : w.values()) value = static_cast<float>(2e38 * (2 * random.uniform() - 1));
  const MatrixD h = correlated_hessian(128, 33);
  const Problem problem = make_problem(w, h, grid_from_name("int4 g32 sym"));
  const auto solution = configured("gptq")->solve(problem);
  EXPECT_THAT(solution[0].report.fallback, testing::HasSubstr("overflowed"));
  EXPECT_TRUE(std::isfinite(solution[0].report.loss));
  EXPECT_THAT(solution[0].tensor->payload(),
              testing::ElementsAreArray(configured("rtn")->solve(problem)[0].tensor->payload()));
}

std::string error_of(const Problem& problem) {
  try {
    configured("gptq")->solve(problem);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_data);
    return error.message();
  }
  return "no error";
}

TEST(Gptq, RefusesBrokenInput) {
  MatrixF w = gaussian({4, 32}, 19);
  const MatrixD zero(32, 32);
  const auto grid = grid_from_name("int4 g32 sym");
  EXPECT_THAT(error_of(make_problem(w, zero, grid)), testing::HasSubstr("every input is zero"));
  MatrixD h = correlated_hessian(32, 20);
  h(3, 3) = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(error_of(make_problem(w, h, grid)), testing::HasSubstr("second moment of input 3"));
  w(2, 5) = std::numeric_limits<float>::infinity();
  EXPECT_THAT(error_of(make_problem(w, correlated_hessian(32, 20), grid)), testing::HasSubstr("row 2"));
}

TEST(Gptq, RefusesActivationOrderWithMovingScales) {
  EXPECT_THROW(configured("gptq", "{ order: activation, static_scales: false }"), Error);
  EXPECT_THROW(configured("gptq", "{ damp: 2 }"), Error);
  EXPECT_THROW(configured("gptq", "{ order: random }"), Error);
  EXPECT_THROW(configured("gptq", "{ dampp: 0.1 }"), Error);
}

/// One round where a solver takes the base's time over and over.
std::string options_for(const SolverInfo& info) { return info.name == "lowrank-residual" ? "{ iterations: 1 }" : "{}"; }

/// What it says before it is asked to solve; all but two make codes of any grid.
bool makes(const Solver& solver, const SolverInfo& info, const Grid& grid, Shape shape) {
  if (!solver.cannot_make({shape, grid})) return true;
  EXPECT_TRUE(info.name == "mixed-rows" || info.name == "nested") << info.name;
  return false;
}

class EverySolverAndGrid : public testing::TestWithParam<std::string> {};

TEST_P(EverySolverAndGrid, GivesTheSameBytesForAnyThreadCountAndAnyCutOfRows) {
  const MatrixF w = gaussian({200, 256}, 21, 0.05);
  const MatrixD h = correlated_hessian(256, 22);
  const auto grid = grid_from_name(GetParam());
  for (const SolverInfo& info : solvers()) {
    if (info.grid_optional) continue;  // tests/solve/svd_test.cpp and compot_test.cpp
    const auto solver = configured(info.name, options_for(info));
    if (!makes(*solver, info, *grid, w.shape())) continue;
    set_thread_count(1);
    const auto one = solver->solve(make_problem(w, h, grid))[0];
    set_thread_count(5);
    const auto five = solver->solve(make_problem(w, h, grid))[0];
    set_thread_count(0);
    EXPECT_THAT(five.tensor->payload(), testing::ElementsAreArray(one.tensor->payload()));
    EXPECT_EQ(five.report.loss, one.report.loss);
    if (grid->one_side_per_tensor() || solver->couples_rows()) continue;
    const Problem cut{{w.view().row_range(0, 128), w.view().row_range(128, 72)}, h.view(), grid};
    const auto parts = solver->solve(cut);
    std::vector<std::byte> joined(parts[0].tensor->payload().begin(), parts[0].tensor->payload().end());
    joined.insert(joined.end(), parts[1].tensor->payload().begin(), parts[1].tensor->payload().end());
    EXPECT_THAT(joined, testing::ElementsAreArray(one.tensor->payload()));
  }
}

TEST_P(EverySolverAndGrid, IsFarBetterThanStoringNothing) {
  const MatrixF w = gaussian({64, 256}, 23, 0.05);
  const MatrixD h = correlated_hessian(256, 24);
  const auto grid = grid_from_name(GetParam());
  for (const SolverInfo& info : solvers()) {
    if (info.grid_optional) continue;
    const auto solver = configured(info.name, options_for(info));
    if (!makes(*solver, info, *grid, w.shape())) continue;
    const Solution solution = solver->solve(make_problem(w, h, grid))[0];
    EXPECT_LT(solution.report.relative_loss, grid->code_bits() <= 2 ? 0.5 : 0.1) << info.name;
    EXPECT_NEAR(solution.report.loss, proxy_loss(w, solution.tensor->decode(), h), 1e-9 * solution.report.loss);
  }
}

TEST_P(EverySolverAndGrid, WorksWithoutAHessian) {
  const MatrixF w = gaussian({64, 256}, 25, 0.05);
  for (const SolverInfo& info : solvers()) {
    if (info.grid_optional) continue;
    const auto grid = grid_from_name(GetParam());
    const auto solver = configured(info.name, options_for(info));
    if (!makes(*solver, info, *grid, w.shape())) continue;
    const Solution solution = solver->solve({{w.view()}, {}, grid})[0];
    EXPECT_GT(solution.report.relative_loss, 0);
    EXPECT_LT(solution.report.relative_loss, 0.5);
  }
}

std::string test_name(const testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return name;
}

INSTANTIATE_TEST_SUITE_P(Grids, EverySolverAndGrid,
                         testing::Values("int2 g64 asym", "int3 g128 sym", "int4 g128 sym", "int4 g32 asym",
                                         "int5 channel sym", "int6 g64 sym", "int8 tensor sym", "gguf/q4_0",
                                         "gguf/q8_0", "gguf/q2_k", "gguf/q3_k", "gguf/q5_k", "gguf/q6_k", "gguf/q4_1",
                                         "gguf/q5_0", "gguf/q5_1", "gguf/iq4_nl", "gguf/iq4_xs", "gguf/mxfp4",
                                         "gguf/tq2_0", "gguf/q4_k", "fp8", "mxfp8", "nvfp4"),
                         test_name);

}  // namespace
}  // namespace adze
