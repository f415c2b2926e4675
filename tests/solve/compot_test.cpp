// COMPOT: the two exact steps of the alternation, and what becomes of it once it is stored.
#include "solve/compot/compot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "grid/factors/product_tensor.h"
#include "grid/sparse/sparse_tensor.h"
#include "linalg/eigen.h"
#include "linalg/gemm.h"
#include "linalg/linalg_testing.h"
#include "metrics/proxy_loss.h"
#include "solve/factors/low_rank.h"
#include "solve_testing.h"

namespace adze {
namespace {

using testing::eigen;
using ::testing::HasSubstr;

MatrixD whitened(Shape shape, std::uint64_t seed) {
  return times_root(to_double(gaussian(shape, seed)), moment_root(correlated_hessian(shape.cols, seed)));
}

OrthogonalDictionary dictionary_of(const MatrixD& t, std::size_t atoms, std::uint64_t kept,
                                   const CompotOptions& options) {
  return find_dictionary(t, first_dictionary(t, atoms), kept, options);
}

double squared(const MatrixD& values) {
  double sum = 0;
  for (const double v : values.values()) sum += v * v;
  return sum;
}

double distance(const MatrixD& t, const MatrixD& s, const MatrixD& d) {
  MatrixD left = product_nt(s, d);
  for (std::size_t i = 0; i < left.values().size(); ++i) left.values()[i] -= t.values()[i];
  return squared(left);
}

std::uint64_t count_kept(std::span<const double> values) {
  return values.size() - static_cast<std::uint64_t>(std::ranges::count(values, 0.0));
}

TEST(OrthogonalDictionary, StaysOrthogonalAndNeverGetsWorse) {
  for (const Shape shape : {Shape{48, 32}, Shape{24, 40}})
    for (std::uint64_t seed = 0; seed < 6; ++seed) {
      const MatrixD t = whitened(shape, seed);
      const std::size_t atoms = 20;
      const OrthogonalDictionary found = dictionary_of(t, atoms, shape.rows * 8, {40, 0, false});
      const MatrixD product = product_tn(found.dictionary, found.dictionary);
      for (std::size_t r = 0; r < atoms; ++r)
        for (std::size_t c = 0; c < atoms; ++c) EXPECT_NEAR(product(r, c), r == c, 1e-10);
      for (std::size_t i = 1; i < found.losses.size(); ++i)
        EXPECT_LE(found.losses[i], found.losses[i - 1] + 1e-12 * squared(t)) << i;
      EXPECT_LT(found.losses.back(), found.losses.front());
      EXPECT_NEAR(found.losses.back(), distance(t, found.coefficients, found.dictionary), 1e-9 * squared(t));
      EXPECT_EQ(count_kept(found.coefficients.values()), shape.rows * 8);
    }
}

TEST(OrthogonalDictionary, CodesBetterThanAnyOtherPlaces) {
  const MatrixD t = whitened({16, 12}, 3);
  const OrthogonalDictionary found = dictionary_of(t, 8, 16 * 3, {5, 0, false});
  const MatrixD all = product_nn(t, found.dictionary);
  RandomStream random(4, "places");
  for (int i = 0; i < 50; ++i) {
    MatrixD other(all.shape());
    for (std::size_t kept = 0; kept < 16 * 3;) {
      const std::size_t at = random.below(all.values().size());
      if (other.values()[at] != 0) continue;
      other.values()[at] = all.values()[at];
      ++kept;
    }
    EXPECT_LE(found.losses.back(), distance(t, other, found.dictionary) + 1e-12);
  }
}

TEST(OrthogonalDictionary, WithEveryCoefficientIsTheTruncatedSvd) {
  const Shape shape{30, 24};
  const MatrixD t = whitened(shape, 5);
  const OrthogonalDictionary found = dictionary_of(t, 10, 30 * 10, {3, 0, false});
  const SingularValues svd = singular_values(t);
  double tail = 0;
  for (std::size_t i = 10; i < svd.values.size(); ++i) tail += svd.values[i] * svd.values[i];
  EXPECT_NEAR(found.losses.front(), tail, 1e-9 * squared(t));
  EXPECT_NEAR(dictionary_of(t, 24, 30 * 24, {1, 0, false}).losses.back(), 0, 1e-9 * squared(t));
}

TEST(OrthogonalDictionary, ByRowKeepsAsManyInEveryRow) {
  const MatrixD t = whitened({10, 12}, 6);
  const OrthogonalDictionary by_row = dictionary_of(t, 8, 10 * 3 + 4, {10, 0, true});
  for (std::size_t r = 0; r < 10; ++r) EXPECT_EQ(count_kept(by_row.coefficients.row(r)), r < 4 ? 4u : 3u);
  const OrthogonalDictionary anywhere = dictionary_of(t, 8, 10 * 3 + 4, {10, 0, false});
  EXPECT_EQ(count_kept(anywhere.coefficients.values()), 34u);
  EXPECT_LT(anywhere.losses.front(), by_row.losses.front());
}

TEST(OrthogonalDictionary, TakesAMatrixOfLessRankThanAtoms) {
  MatrixD t(12, 10);
  const MatrixD a = to_double(gaussian({12, 3}, 7)), b = to_double(gaussian({3, 10}, 8));
  t = product_nn(a, b);
  const OrthogonalDictionary found = dictionary_of(t, 8, 12 * 3, {20, 0, false});
  EXPECT_LT(found.losses.back(), 1e-10 * squared(t));
  const MatrixD zero(12, 10);
  EXPECT_EQ(dictionary_of(zero, 4, 12, {5, 0, false}).losses.back(), 0);
}

Solution solve(const MatrixF& w, const MatrixD& h, const std::string& options, const char* grid = "f16",
               const char* solver = "compot") {
  return configured(solver, options)->solve(make_problem(w, h, value_grid_from_name(grid)))[0];
}

/// |c_ij| ||C^-T d_j||^lambda with an inverse in place of the identity that does without.
TEST(SinglePass, KeepsWhatMattersInBothNorms) {
  const MatrixD w = to_double(gaussian({40, 32}, 3));
  const MatrixD root = moment_root(correlated_hessian(32, 3));
  const MatrixD t = times_root(w, root);
  const MatrixD start = first_dictionary(t, 20);
  const Eigen::MatrixXd atoms = eigen(root).transpose().inverse() * eigen(start);
  for (const double lambda : {0.0, 0.5, 1.0}) {
    const MatrixD found = single_pass_coefficients(w, t, start, 300, lambda, false);
    const MatrixD all = product_nn(t, start);
    std::vector<double> importance;
    for (std::size_t r = 0; r < 40; ++r)
      for (std::size_t c = 0; c < 20; ++c)
        importance.push_back(std::fabs(all(r, c)) * std::pow(atoms.col(static_cast<Eigen::Index>(c)).norm(), lambda));
    std::vector<double> sorted = importance;
    std::ranges::sort(sorted, std::greater{});
    for (std::size_t i = 0; i < importance.size(); ++i)
      EXPECT_EQ(found.values()[i], importance[i] >= sorted[299] ? all.values()[i] : 0.0) << lambda << " " << i;
  }
}

TEST(SinglePass, LosesMoreThanTheAlternationAndLessThanALowRank) {
  double rocket = 0, compot = 0, svd = 0;
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    const MatrixF w = gaussian({96, 64}, seed);
    const MatrixD h = correlated_hessian(64, seed);
    rocket += solve(w, h, "{ keep: 70%, align: 1 }", "f16", "rocket").report.relative_loss;
    compot += solve(w, h, "{ keep: 70%, align: 1 }").report.relative_loss;
    svd += solve(w, h, "{ keep: 70%, align: 1 }", "f16", "svd").report.relative_loss;
  }
  EXPECT_LT(compot, rocket);
  EXPECT_LT(rocket, svd);
  EXPECT_THROW(configured("rocket", "{ keep: 50%, iterations: 3 }"), Error);
  EXPECT_THROW(configured("rocket", "{ keep: 50%, importance: -1 }"), Error);
}

TEST(Compot, StoresWithinItsBudgetAndReportsItsLoss) {
  for (const Shape shape : {Shape{64, 96}, Shape{128, 64}, Shape{64, 64}}) {
    const MatrixF w = gaussian(shape, 9);
    const MatrixD h = correlated_hessian(shape.cols, 9);
    const Solution solution = solve(w, h, "{ keep: 70% }");
    const double kept = static_cast<double>(solution.tensor->bytes()) / (2.0 * static_cast<double>(shape.count()));
    EXPECT_LT(kept, 0.702) << solution.tensor->format();  // masks are padded to bytes
    EXPECT_GT(kept, 0.66) << solution.tensor->format();
    EXPECT_NEAR(solution.report.loss, proxy_loss(w, solution.tensor->decode(), h), 1e-9 * solution.report.loss);
    EXPECT_EQ(solution.tensor->format(),
              configured("compot", "{ keep: 70% }")->format({shape, *value_grid_from_name("f16")}));
    const auto& product = dynamic_cast<const ProductTensor&>(*solution.tensor);
    EXPECT_NE(dynamic_cast<const SparseTensor*>(&product.left()), nullptr);
  }
}

/// Whole-matrix threshold, least squares afterwards, and more iterations each lower the loss on average.
TEST(Compot, EveryStepHelps) {
  double sums[6] = {};
  const char* const options[] = {"{ keep: 70%, align: 1, iterations: 0, refit: 0 }",
                                 "{ keep: 70%, align: 1, refit: 0, threshold: row }",
                                 "{ keep: 70%, align: 1, refit: 0 }",
                                 "{ keep: 70%, align: 1 }",
                                 "{ keep: 70%, align: 1, refit: 10 }",
                                 "{ keep: 70%, align: 1, iterations: 100, tolerance: 0 }"};
  double svd = 0;
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    const MatrixF w = gaussian({96, 64}, seed);
    const MatrixD h = correlated_hessian(64, seed);
    for (std::size_t i = 0; i < 6; ++i) sums[i] += solve(w, h, options[i]).report.relative_loss;
    svd += solve(w, h, "{ keep: 70%, align: 1 }", "f16", "svd").report.relative_loss;
  }
  EXPECT_LT(sums[1], sums[0]);
  EXPECT_LT(sums[2], sums[1]);
  EXPECT_LT(sums[3], sums[2]);
  EXPECT_LT(sums[4], sums[3]);
  EXPECT_LT(sums[5], sums[3]);
  EXPECT_LT(sums[3], svd);
}

TEST(Compot, DictionaryAndCoefficientsAreQuantizedTogether) {
  const MatrixF w = gaussian({128, 128}, 10);
  const MatrixD h = correlated_hessian(128, 10);
  const double floats = solve(w, h, "{ keep: 70%, align: 32 }").report.loss;
  const Solution eight = solve(w, h, "{ keep: 70%, align: 32 }", "int8 g32 sym");
  EXPECT_THAT(eight.tensor->format(), HasSubstr("[int8 g32 sym, "));
  EXPECT_LT(eight.report.loss, 1.1 * floats);
  EXPECT_LT(solve(w, h, "{ keep: 70%, align: 32 }", "int4 g32 sym").report.relative_loss, 0.2);
}

TEST(Compot, RefusesBadOptionsAndSaysWhatIsTooSmall) {
  for (const char* const options : {"{}", "{ keep: 0% }", "{ keep: 150% }", "{ keep: 50%, ratio: 0.5 }",
                                    "{ keep: 50%, threshold: column }", "{ keep: 50%, rank: 4 }"})
    EXPECT_THROW(configured("compot", options), Error) << options;
  const auto grid = value_grid_from_name("f16");
  EXPECT_THAT(configured("compot", "{ keep: 3% }")->cannot_make({{64, 64}, *grid}).value_or(""),
              HasSubstr("keep 3% leaves 1.23 atoms, less than align: 8"));
  EXPECT_THAT(configured("compot", "{ keep: 100% }")->remark({{64, 64}, *grid}), HasSubstr("stored whole, as f16"));
  EXPECT_THAT(configured("compot", "{ keep: 50%, align: 32 }")
                  ->cannot_make({{128, 128}, *grid_from_name("gguf/q4_1")})
                  .value_or(""),
              HasSubstr("gguf/q4_1 has no zero in every group"));
  const auto coarse = grid_from_name("int4 g128 sym");
  EXPECT_THAT(configured("compot", "{ keep: 50% }")->cannot_make({{128, 128}, *coarse}).value_or(""),
              HasSubstr("suits the grid"));
}

/// Half of the inputs never move: H has no Cholesky factor.
TEST(Compot, TakesASingularH) {
  const MatrixF w = gaussian({48, 32}, 12);
  MatrixD h = correlated_hessian(32, 12);
  for (std::size_t r = 0; r < 32; ++r)
    for (std::size_t c = 0; c < 32; ++c)
      if (r >= 16 || c >= 16) h(r, c) = 0;
  for (const char* solver : {"compot", "svd", "mpo"}) {
    const Solution solution = solve(w, h, "{ keep: 60% }", "f16", solver);
    EXPECT_LT(solution.report.relative_loss, 0.2) << solver;
    EXPECT_EQ(solution.report.dead_inputs, 16u) << solver;
    EXPECT_THROW(solve(w, MatrixD(32, 32), "{ keep: 60% }", "f16", solver), Error) << solver;  // nothing ever moves
  }
}

/// However few outputs ask for it, a dictionary has no more atoms than there are inputs.
TEST(Compot, ADictionaryIsNotLargerThanTheLayersInputs) {
  const auto grid = value_grid_from_name("f16");
  const std::string format = configured("compot", "{ keep: 95%, ratio: 16 }")->format({{512, 64}, *grid});
  EXPECT_THAT(format, HasSubstr("rank 64 "));
  const MatrixF w = gaussian({512, 64}, 11);
  EXPECT_LT(solve(w, correlated_hessian(64, 11), "{ keep: 95%, ratio: 16, iterations: 2 }").report.relative_loss, 0.01);
}

}  // namespace
}  // namespace adze
