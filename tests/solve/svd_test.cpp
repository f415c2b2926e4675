// Low rank: the theorem on small problems, against Eigen's own decompositions, and how it is stored.
#include "solve/svd/svd.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/parallel.h"
#include "grid/factors/pivoted_tensor.h"
#include "grid/factors/product_tensor.h"
#include "grid/float_grid.h"
#include "metrics/proxy_loss.h"
#include "solve/factors/stored_factors.h"
#include "solve_testing.h"

namespace adze {
namespace {

using ::testing::HasSubstr;

double loss(const Eigen::MatrixXd& difference, const Eigen::MatrixXd& h) {
  return (difference * h * difference.transpose()).trace();
}

/// sum_{i > r} sigma_i^2 of W C, H = C C^T, by Eigen's Cholesky and Jacobi SVD.
double tail_by_svd(const Eigen::MatrixXd& w, const Eigen::MatrixXd& h, std::size_t rank) {
  const Eigen::MatrixXd c = h.llt().matrixL();
  const Eigen::VectorXd sigma = Eigen::JacobiSVD<Eigen::MatrixXd>(w * c).singularValues();
  double sum = 0;
  for (auto i = static_cast<Eigen::Index>(rank); i < sigma.size(); ++i) sum += sigma(i) * sigma(i);
  return sum;
}

struct Layer {
  MatrixD w;
  MatrixD h;
};

Layer layer(Shape shape, std::uint64_t seed) {
  return {to_double(gaussian(shape, seed)), correlated_hessian(shape.cols, seed)};
}

double achieved(const Layer& layer, std::size_t rank) {
  const MatrixD root = layer.w.rows() > layer.w.cols() ? moment_root(layer.h) : MatrixD();
  const Factors factors = leading_factors(layer.w, output_spectrum(layer.w, layer.h, root, rank));
  return loss(eigen(layer.w) - eigen(factors.left) * eigen(factors.right), eigen(layer.h));
}

class LowRank : public ::testing::TestWithParam<Shape> {};

TEST_P(LowRank, LosesTheTailOfTheSpectrum) {
  const Layer given = layer(GetParam(), 1);
  const std::size_t most = std::min(GetParam().rows, GetParam().cols);
  const MatrixD root = moment_root(given.h);
  for (const std::size_t rank : {std::size_t{1}, most / 3, most / 2, most - 1}) {
    const double exact = tail_by_svd(eigen(given.w), eigen(given.h), rank);
    EXPECT_NEAR(achieved(given, rank), exact, 1e-9 * exact) << rank;
    EXPECT_NEAR(tail(output_spectrum(given.w, given.h, root, rank).energy, rank), exact, 1e-9 * exact) << rank;
  }
}

TEST_P(LowRank, IsBetterThanOtherFactorsOfTheRank) {
  const Layer given = layer(GetParam(), 2);
  constexpr std::size_t kRank = 5;
  const double best = achieved(given, kRank);
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    const MatrixD right = to_double(gaussian({kRank, GetParam().cols}, 100 + seed));
    const MatrixD left = best_left(given.w, given.h, right);
    EXPECT_LT(best, loss(eigen(given.w) - eigen(left) * eigen(right), eigen(given.h)));
  }
}

TEST_P(LowRank, WithoutHIsTheTruncatedSvd) {
  const MatrixD w = to_double(gaussian(GetParam(), 3));
  const Factors factors = leading_factors(w, output_spectrum(w, {}, {}, 6));
  const Eigen::VectorXd sigma = Eigen::JacobiSVD<Eigen::MatrixXd>(eigen(w)).singularValues();
  EXPECT_NEAR((eigen(w) - eigen(factors.left) * eigen(factors.right)).squaredNorm(),
              sigma.tail(sigma.size() - 6).squaredNorm(), 1e-9);
  EXPECT_LT((eigen(factors.left).transpose() * eigen(factors.left) - Eigen::MatrixXd::Identity(6, 6)).norm(), 1e-10);
}

/// Cholesky fails on it; the theorem needs no inverse.
TEST_P(LowRank, TakesASingularH) {
  const auto n = static_cast<Eigen::Index>(GetParam().cols);
  Layer given{to_double(gaussian(GetParam(), 4)), MatrixD(GetParam().cols, GetParam().cols)};
  const Eigen::MatrixXd x = eigen(to_double(gaussian({GetParam().cols, GetParam().cols / 2}, 5)));
  for (Eigen::Index r = 0; r < n; ++r)
    for (Eigen::Index c = 0; c < n; ++c)
      given.h(static_cast<std::size_t>(r), static_cast<std::size_t>(c)) = (x * x.transpose())(r, c);
  const Eigen::VectorXd sigma = Eigen::JacobiSVD<Eigen::MatrixXd>(eigen(given.w) * x).singularValues();
  const std::size_t rank = GetParam().cols / 4;
  const double exact = sigma.tail(sigma.size() - static_cast<Eigen::Index>(rank)).squaredNorm();
  EXPECT_NEAR(achieved(given, rank), exact, 1e-8 * exact);
}

TEST_P(LowRank, TheOtherFactorIsFittedByLeastSquares) {
  const Layer given = layer(GetParam(), 6);
  const MatrixD right = to_double(gaussian({4, GetParam().cols}, 7));
  const Eigen::MatrixXd z = eigen(right), h = eigen(given.h), w = eigen(given.w);
  const Eigen::MatrixXd exact = w * h * z.transpose() * (z * h * z.transpose()).inverse();
  EXPECT_LT((eigen(best_left(given.w, given.h, right)) - exact).norm(), 1e-6 * exact.norm());
  // Orthonormal left: the best right factor does not depend on H, so fitting the left again changes nothing.
  const MatrixD root = moment_root(given.h);
  const Factors best = leading_factors(given.w, output_spectrum(given.w, given.h, root, 4));
  EXPECT_LT((eigen(best_left(given.w, given.h, best.right)) - eigen(best.left)).norm(), 1e-7);
}

INSTANTIATE_TEST_SUITE_P(Shapes, LowRank, ::testing::Values(Shape{24, 24}, Shape{20, 48}, Shape{60, 24}),
                         [](const auto& one) {
                           return std::to_string(one.param.rows) + "x" + std::to_string(one.param.cols);
                         });

Solution solve(const MatrixF& w, const MatrixD& h, const std::string& options, const char* grid = "f16",
               const char* solver = "svd") {
  return configured(solver, options)->solve(make_problem(w, h, value_grid_from_name(grid)))[0];
}

TEST(Svd, StoresWhatTheTheoremPromises) {
  for (const Shape shape : {Shape{64, 96}, Shape{96, 64}}) {
    const MatrixF w = gaussian(shape, 8);
    const MatrixD h = correlated_hessian(shape.cols, 8);
    const double exact = tail_by_svd(eigen(to_double(w)), eigen(h), 24);
    const Solution plain = solve(w, h, "{ rank: 24 }");
    EXPECT_EQ(plain.tensor->format(), "rank 24 [f16] [f16]");
    EXPECT_NEAR(plain.report.loss, exact, 1e-3 * exact);
    EXPECT_NEAR(plain.report.loss, proxy_loss(w, plain.tensor->decode(), h), 1e-9 * exact);
    const Solution pivoted = solve(w, h, "{ rank: 24, form: pivoted }");
    EXPECT_EQ(pivoted.tensor->format(), "rank 24 [f16] [pivoted f16]");
    EXPECT_NEAR(pivoted.report.loss, exact, 1e-3 * exact);
    EXPECT_NEAR(solve(w, h, "{ rank: 24, balanced: true }").report.loss, exact, 1e-3 * exact);
  }
}

/// L' [I | T] = L R: what is stored is the same matrix in r^2 numbers less.
TEST(Svd, PivotedFactorsAreTheSameProduct) {
  const Layer given = layer({40, 56}, 9);
  const Factors factors = leading_factors(given.w, output_spectrum(given.w, given.h, {}, 16));
  std::string remarks;
  const auto tensor =
      store_factors(given.w, given.h, factors, 16, FactorForm::pivoted, value_grid_from_name("f16"), remarks);
  EXPECT_EQ(remarks, "");
  const auto& product = dynamic_cast<const ProductTensor&>(*tensor);
  const auto& right = dynamic_cast<const PivotedTensor&>(product.right());
  double largest = 0;
  const MatrixF t_block = right.rest().decode();
  for (const float t : t_block.values()) largest = std::max(largest, std::fabs(double{t}));
  EXPECT_LT(largest, 10);
  const Eigen::MatrixXd exact = eigen(factors.left) * eigen(factors.right);
  EXPECT_LT((eigen(to_double(tensor->decode())) - exact).norm(), 3e-3 * exact.norm());
  EXPECT_EQ(tensor->bytes(), 2u * 40 * 16 + 2 * 16 * (56 - 16) + 12);  // 16 pivots of 6 bits
}

TEST(Svd, MetricsComeInTheOrderOfTheTheory) {
  double hessian = 0, pivoted = 0, diagonal = 0, asvd = 0, none = 0;
  for (std::uint64_t seed = 0; seed < 6; ++seed) {
    const MatrixF w = gaussian({64, 64}, seed);
    const MatrixD h = correlated_hessian(64, seed);
    hessian += solve(w, h, "{ keep: 70%, align: 1 }").report.relative_loss;
    pivoted += solve(w, h, "{ keep: 70%, align: 1, form: pivoted }").report.relative_loss;
    diagonal += solve(w, h, "{ keep: 70%, align: 1, metric: diagonal }").report.relative_loss;
    asvd += solve(w, h, "{ keep: 70%, align: 1, metric: diagonal, alpha: 0.5 }").report.relative_loss;
    none += solve(w, h, "{ keep: 70%, align: 1, metric: none }").report.relative_loss;
  }
  EXPECT_LT(pivoted, hessian);
  EXPECT_LT(hessian, diagonal);
  EXPECT_LT(hessian, asvd);
  EXPECT_LT(hessian, none);
}

/// tr(M (W - What) H (W - What)^T) is the tail of the spectrum of F^T W C, M = F F^T, H = C C^T.
TEST(Svd, WeighsOutputsByWhatReadsThem) {
  for (const Shape shape : {Shape{32, 48}, Shape{48, 32}}) {
    const MatrixF w = gaussian(shape, 18);
    const MatrixD h = correlated_hessian(shape.cols, 18);
    const MatrixD m = correlated_hessian(shape.rows, 19);
    const Eigen::MatrixXd weights = eigen(to_double(w)), reading = eigen(m);
    const auto read_loss = [&](const Solution& solution) {
      const Eigen::MatrixXd difference = weights - eigen(to_double(solution.tensor->decode()));
      return (reading * difference * eigen(h) * difference.transpose()).trace();
    };
    Problem problem = make_problem(w, h, value_grid_from_name("f16"));
    problem.readers = {m.view()};
    const Solution read = configured("svd", "{ rank: 12, readers: true }")->solve(problem)[0];
    const Eigen::MatrixXd f = reading.llt().matrixL();
    const double exact = tail_by_svd(f.transpose() * weights, eigen(h), 12);
    EXPECT_EQ(read.report.fallback, "");
    EXPECT_GE(read_loss(read), 0.999 * exact);
    EXPECT_LE(read_loss(read), 1.03 * exact);  // what damping and f16 take
    EXPECT_GT(read_loss(solve(w, h, "{ rank: 12 }")), 1.1 * exact);
    problem.readers.clear();
    const Solution unread = configured("svd", "{ rank: 12, readers: true }")->solve(problem)[0];
    EXPECT_THAT(unread.report.fallback, HasSubstr("keys and values only"));
    EXPECT_EQ(unread.report.loss, solve(w, h, "{ rank: 12 }").report.loss);
  }
}

TEST(Svd, OnADiagonalHTheDiagonalIsAllThereIs) {
  const MatrixF w = gaussian({32, 32}, 10);
  MatrixD h(32, 32);
  for (std::size_t i = 0; i < 32; ++i) h(i, i) = 1 + static_cast<double>(i * i);
  EXPECT_NEAR(solve(w, h, "{ rank: 8 }").report.loss, solve(w, h, "{ rank: 8, metric: diagonal }").report.loss,
              1e-6 * solve(w, h, "{ rank: 8 }").report.loss);
}

TEST(Svd, ALayerOfLessRankIsKeptWhole) {
  const MatrixF a = gaussian({48, 6}, 11), b = gaussian({6, 40}, 12);
  MatrixF w(48, 40);
  for (std::size_t r = 0; r < 48; ++r)
    for (std::size_t k = 0; k < 6; ++k)
      for (std::size_t c = 0; c < 40; ++c) w(r, c) += 0.1f * a(r, k) * b(k, c);
  for (const char* options : {"{ rank: 16 }", "{ rank: 16, form: pivoted }", "{ rank: 16, balanced: true }"}) {
    const Solution solution = solve(w, correlated_hessian(40, 13), options);
    EXPECT_LT(solution.report.relative_loss, 1e-6) << options;
    EXPECT_THAT(solution.tensor->format(), HasSubstr("rank 16 ")) << options;
  }
  EXPECT_EQ(solve(MatrixF(48, 40), correlated_hessian(40, 13), "{ rank: 16 }").report.loss, 0);
}

/// The loss of the best factors, each rounded to nearest on its own.
double by_nearest(const MatrixF& w, const MatrixD& h, std::size_t rank, const char* grid) {
  const MatrixD weights = to_double(w);
  const Factors factors = leading_factors(weights, output_spectrum(weights, h, moment_root(h), rank));
  const auto rounded = [&](const MatrixD& factor) {
    const MatrixF single = to_single(factor);
    const Problem problem{{single.view()}, {}, grid_from_name(grid)};
    return to_double(configured("rtn")->solve(problem)[0].tensor->decode());
  };
  return loss(eigen(weights) - eigen(rounded(factors.left)) * eigen(rounded(factors.right)), eigen(h));
}

TEST(Svd, FactorsAreQuantizedWithFeedback) {
  const MatrixF w = gaussian({64, 128}, 14);
  const MatrixD h = correlated_hessian(128, 14);
  const double floats = solve(w, h, "{ rank: 32 }").report.loss;
  const double eight = solve(w, h, "{ rank: 32 }", "int8 g32 sym").report.loss;
  const double four = solve(w, h, "{ rank: 32 }", "int4 g32 sym").report.loss;
  EXPECT_LT(floats, eight);
  EXPECT_LT(eight, 1.05 * floats);
  EXPECT_LT(four, 0.7 * by_nearest(w, h, 32, "int4 g32 sym"));
  EXPECT_LT(eight, four);
}

/// A sketch finds factors that lose hardly more than the best ones, of weights and of what rounding leaves of them.
TEST(SketchedFactors, AreNearlyTheBest) {
  for (const Shape shape : {Shape{160, 240}, Shape{240, 160}}) {
    const MatrixF w = gaussian(shape, 21);
    const MatrixD h = correlated_hessian(shape.cols, 21);
    MatrixF residual = w;
    for (float& value : residual.values()) value -= std::round(4 * value) / 4;
    for (const MatrixF& wanted : {w, residual}) {
      const MatrixD weights = to_double(wanted);
      const auto loss_of = [&](const Factors& factors) {
        return loss(eigen(weights) - eigen(factors.left) * eigen(factors.right), eigen(h));
      };
      const double best = loss_of(leading_factors(weights, output_spectrum(weights, h, moment_root(h), 10)));
      EXPECT_LT(loss_of(sketched_factors(weights, h, 10)), 1.02 * best);
    }
  }
  EXPECT_TRUE(sketch_pays({4096, 1024}, 64));
  EXPECT_FALSE(sketch_pays({4096, 1024}, 200));
  EXPECT_FALSE(sketch_pays({512, 512}, 8));
}

TEST(Svd, RankFollowsFromTheNumbersThatAreKept) {
  const auto grid = value_grid_from_name("f16");
  const auto rank = [&](double keep, FactorForm form, Shape shape, std::size_t align = 1) {
    return choose_rank({keep, 0, align}, form, {shape, *grid}).rank;
  };
  EXPECT_EQ(rank(0.8, FactorForm::plain, {100, 100}), 40u);
  EXPECT_EQ(rank(0.6, FactorForm::plain, {100, 300}), 45u);
  EXPECT_EQ(rank(0.6, FactorForm::plain, {100, 300}, 8), 40u);
  EXPECT_EQ(rank(0.8, FactorForm::pivoted, {1000, 1000}), 552u);  // 0.553 m, less the list of pivots
  EXPECT_EQ(rank(1, FactorForm::plain, {100, 100}), 0u);          // whole: factors would take no less
  EXPECT_EQ(rank(1, FactorForm::pivoted, {100, 100}), 0u);
  EXPECT_EQ(rank(0.95, FactorForm::plain, {16, 16}), 7u);  // 8 would take all of it, and is no reason to keep it whole
  EXPECT_EQ(rank(0.999, FactorForm::plain, {100, 100}), 49u);
  EXPECT_EQ(choose_rank({0, 0, 8, 0.5}, FactorForm::plain, {{100, 300}, *grid}).rank, 48u);
  EXPECT_EQ(choose_rank({0, 0, 1, 0.5}, FactorForm::pivoted, {{100, 100}, *grid}).rank, 50u);
  EXPECT_EQ(choose_rank({0, 0, 8, 0.5}, FactorForm::plain, {{96, 96}, *grid}).rank, 0u);  // no less than the matrix
  EXPECT_THAT(choose_rank({0, 0, 8, 0.05}, FactorForm::plain, {{100, 300}, *grid}).trouble.value_or(""),
              HasSubstr("rank 5% is 5 of 100, less than align: 8"));
  EXPECT_EQ(configured("svd", "{ rank: 25% }")->format({{64, 256}, *grid}), "rank 16 [f16] [f16]");
  EXPECT_EQ(choose_rank({0, 60, 8}, FactorForm::plain, {{100, 100}, *grid}).rank, 0u);
  EXPECT_EQ(choose_rank({0, 49, 8}, FactorForm::plain, {{100, 100}, *grid}).rank, 49u);
}

TEST(Svd, SaysWhyNoRankWillDo) {
  const auto solver = configured("svd", "{ keep: 2% }");
  const auto grid = value_grid_from_name("f16");
  EXPECT_THAT(solver->cannot_make({{64, 64}, *grid}).value_or(""),
              HasSubstr("keep 2% leaves rank 0 of 64, less than align: 8; keep at least 25%, or align: 1"));
  const auto coarse = grid_from_name("int4 g128 sym");
  EXPECT_THAT(configured("svd", "{ keep: 50% }")->cannot_make({{128, 128}, *coarse}).value_or(""),
              HasSubstr("suits the grid of the factors"));
  EXPECT_EQ(configured("svd", "{ keep: 50% }")->cannot_make({{64, 64}, *grid}), std::nullopt);
  EXPECT_THAT(configured("svd", "{ keep: 100% }")->remark({{64, 64}, *grid}), HasSubstr("stored whole, as f16"));
}

TEST(Svd, RefusesBadOptions) {
  for (const char* const options :
       {"{}", "{ keep: 0% }", "{ keep: 120% }", "{ keep: 0.8 }", "{ rank: 0 }", "{ rank: 0% }",
        "{ keep: 50%, rank: 8 }", "{ keep: 50%, metric: hesian }", "{ keep: 50%, alpha: 0.5 }",
        "{ keep: 50%, form: pivotted }", "{ keep: 50%, ranks: 8 }", "{ keep: 50%, align: 0 }"})
    EXPECT_THROW(configured("svd", options), Error) << options;
}

TEST(Svd, GivesTheSameBytesForAnyThreadCount) {
  const MatrixF w = gaussian({300, 128}, 15);
  const MatrixD h = correlated_hessian(128, 15);
  const struct {
    const char* solver;
    const char* options;
    const char* grid;
  } cases[] = {{"svd", "{ keep: 60% }", "f16"},
               {"svd", "{ keep: 60%, form: pivoted }", "bf16"},
               {"svd", "{ keep: 60%, align: 32 }", "int4 g32 sym"},
               {"compot", "{ keep: 60% }", "f16"},
               {"compot", "{ keep: 60%, align: 32, threshold: row }", "int4 g32 sym"}};
  for (const auto& one : cases) {
    const auto run = [&](int threads) {
      set_thread_count(threads);
      const Solution solution = solve(w, h, one.options, one.grid, one.solver);
      set_thread_count(0);
      return std::vector<std::byte>(solution.tensor->payload().begin(), solution.tensor->payload().end());
    };
    EXPECT_EQ(run(1), run(5)) << one.solver << one.options;
  }
}

TEST(Svd, WorksWithoutAHessian) {
  const MatrixF w = gaussian({64, 64}, 16);
  for (const char* solver : {"svd", "compot"}) {
    const Solution solution =
        configured(solver, "{ keep: 60% }")->solve({{w.view()}, {}, value_grid_from_name("f16")})[0];
    EXPECT_GT(solution.report.relative_loss, 0);
    EXPECT_LT(solution.report.relative_loss, 0.5);
  }
}

}  // namespace
}  // namespace adze
