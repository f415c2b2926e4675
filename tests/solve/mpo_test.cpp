// Tensor trains: against a plain SVD of the permuted matrix, least squares by brute force, and how they are stored.
#include "solve/mpo/mpo.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/parallel.h"
#include "grid/float_grid.h"
#include "linalg/gemm.h"
#include "solve/factors/low_rank.h"
#include "solve_testing.h"

namespace adze {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

double loss(const MatrixD& w, const MatrixD& what, const MatrixD& h) {
  MatrixD d(w.shape());
  for (std::size_t i = 0; i < d.values().size(); ++i) d.values()[i] = w.values()[i] - what.values()[i];
  const MatrixD weighed = h.empty() ? d : product_nn(d, h);
  double sum = 0;
  for (std::size_t i = 0; i < d.values().size(); ++i) sum += d.values()[i] * weighed.values()[i];
  return sum;
}

TEST(Digits, AreAsEqualAsDivisorsAllow) {
  EXPECT_THAT(digits_of(256, 2), ElementsAre(16, 16));
  EXPECT_THAT(digits_of(768, 2), ElementsAre(24, 32));
  EXPECT_THAT(digits_of(4096, 3), ElementsAre(16, 16, 16));
  EXPECT_THAT(digits_of(7, 2), ElementsAre(1, 7));
  EXPECT_THAT(digits_of(60, 3), ElementsAre(3, 4, 5));
}

TEST(TrainBySvd, WithFullBondsIsTheMatrix) {
  for (const std::size_t count : {2, 3}) {
    TrainShape train{digits_of(24, count), digits_of(36, count), std::vector<std::size_t>(count - 1)};
    for (std::size_t k = 0; k + 1 < count; ++k) train.bonds[k] = train.most_bond(k);
    const MatrixD w = to_double(gaussian({24, 36}, 1));
    EXPECT_LT(loss(w, contract(train, train_by_svd(w, train)), {}), 1e-18);
  }
}

/// Two cores: the tail of the singular values of the matrix with (i1 j1) against (i2 j2), as Eckart and Young have it.
TEST(TrainBySvd, OfTwoCoresLosesTheTail) {
  const TrainShape train{{4, 6}, {3, 8}, {5}};
  const MatrixD w = to_double(gaussian({24, 24}, 2));
  Eigen::MatrixXd permuted(12, 48);
  for (Eigen::Index r = 0; r < 24; ++r)
    for (Eigen::Index c = 0; c < 24; ++c)
      permuted(r / 6 * 3 + c / 8, r % 6 * 8 + c % 8) = w(static_cast<std::size_t>(r), static_cast<std::size_t>(c));
  const Eigen::VectorXd sigma = Eigen::JacobiSVD<Eigen::MatrixXd>(permuted).singularValues();
  EXPECT_NEAR(loss(w, contract(train, train_by_svd(w, train)), {}), sigma.tail(sigma.size() - 5).squaredNorm(), 1e-9);
}

/// Of more cores the loss is at most the sum of what each cut drops.
TEST(TrainBySvd, OfThreeCoresIsWithinItsBound) {
  const MatrixD w = to_double(gaussian({27, 27}, 3));
  const TrainShape train{{3, 3, 3}, {3, 3, 3}, {6, 6}};
  const double three = loss(w, contract(train, train_by_svd(w, train)), {});
  const TrainShape first{{3, 9}, {3, 9}, {6}}, second{{9, 3}, {9, 3}, {6}};
  const double one = loss(w, contract(first, train_by_svd(w, first)), {});
  const double other = loss(w, contract(second, train_by_svd(w, second)), {});
  EXPECT_LE(three, one + other + 1e-9);
  EXPECT_GE(three, std::max(one, other) - 1e-9);
}

TEST(FitCores, NeverRaisesTheLossAndGainsMuchWhereInputsAreCorrelated) {
  for (const std::size_t count : {2, 3}) {
    TrainShape train{digits_of(24, count), digits_of(36, count), std::vector<std::size_t>(count - 1, 6)};
    const MatrixD w = to_double(gaussian({24, 36}, 4));
    const MatrixD h = correlated_hessian(36, 4);
    TrainCores cores = train_by_svd(w, train);
    const double by_svd = loss(w, contract(train, cores), h);
    double before = by_svd;
    for (int sweep = 0; sweep < 6; ++sweep) {
      fit_cores(w, h, train, 1, cores);
      const double now = loss(w, contract(train, cores), h);
      EXPECT_LE(now, before * (1 + 1e-12)) << sweep;
      before = now;
    }
    EXPECT_LT(before, 0.6 * by_svd);
  }
}

/// The last core with the first one fixed, by normal equations over all of its entries.
TEST(FitCores, ReachesLeastSquaresOfACore) {
  const TrainShape train{{2, 3}, {2, 2}, {2}};
  const MatrixD w = to_double(gaussian({6, 4}, 5));
  const MatrixD h = correlated_hessian(4, 5);
  TrainCores cores = train_by_svd(w, train);
  const std::size_t unknowns = cores[1].values().size();
  std::vector<MatrixD> basis;
  for (std::size_t i = 0; i < unknowns; ++i) {
    TrainCores one = cores;
    std::ranges::fill(one[1].values(), 0.0);
    one[1].values()[i] = 1;
    basis.push_back(contract(train, one));
  }
  Eigen::MatrixXd a(unknowns, unknowns);
  Eigen::VectorXd b(unknowns);
  const auto inner = [&](const MatrixD& x, const MatrixD& y) {
    const MatrixD weighed = product_nn(x, h);
    double sum = 0;
    for (std::size_t i = 0; i < x.values().size(); ++i) sum += weighed.values()[i] * y.values()[i];
    return sum;
  };
  for (std::size_t i = 0; i < unknowns; ++i) {
    b(static_cast<Eigen::Index>(i)) = inner(basis[i], w);
    for (std::size_t j = 0; j < unknowns; ++j)
      a(static_cast<Eigen::Index>(i), static_cast<Eigen::Index>(j)) = inner(basis[i], basis[j]);
  }
  const Eigen::VectorXd exact = a.ldlt().solve(b);
  TrainCores best = cores;
  for (std::size_t i = 0; i < unknowns; ++i) best[1].values()[i] = exact(static_cast<Eigen::Index>(i));
  const double least = loss(w, contract(train, best), h);
  fit_cores(w, h, train, 200, cores);  // both cores: no worse than the last one alone
  EXPECT_LE(loss(w, contract(train, cores), h), least * (1 + 1e-6));
}

Solution solve(const MatrixF& w, const MatrixD& h, const std::string& options, const char* grid = "f16") {
  return configured("mpo", options)->solve(make_problem(w, h, value_grid_from_name(grid)))[0];
}

TEST(Mpo, StoresWithinItsBudget) {
  const MatrixF w = gaussian({48, 64}, 6);
  const MatrixD h = correlated_hessian(64, 6);
  for (const char* const options : {"{ keep: 70% }", "{ keep: 70%, cores: 3 }"}) {
    const Solution solution = solve(w, h, options);
    EXPECT_LE(solution.tensor->bytes(), 2 * 0.7 * 48 * 64);
    EXPECT_GT(solution.tensor->bytes(), 2 * 0.6 * 48 * 64);
    EXPECT_EQ(solution.tensor->format(), configured("mpo", options)->format({w.shape(), *value_grid_from_name("f16")}));
  }
  EXPECT_LT(solve(w, h, "{ keep: 70% }").report.loss, solve(w, h, "{ keep: 70%, sweeps: 0 }").report.loss);
  EXPECT_EQ(solve(w, h, "{ keep: 100% }").tensor->format(), "f16");
  EXPECT_GT(solve(w, h, "{ keep: 70% }", "int8 tensor sym").report.loss, solve(w, h, "{ keep: 70% }").report.loss);
}

TEST(Mpo, GivesTheSameBytesForAnyThreadCount) {
  const MatrixF w = gaussian({48, 64}, 7);
  const auto run = [&](int threads) {
    set_thread_count(threads);
    const Solution solution = solve(w, correlated_hessian(64, 7), "{ keep: 60%, cores: 3 }");
    set_thread_count(0);
    return std::vector<std::byte>(solution.tensor->payload().begin(), solution.tensor->payload().end());
  };
  EXPECT_EQ(run(1), run(5));
}

TEST(Mpo, RefusesBadOptionsAndSaysWhatIsTooSmall) {
  for (const char* const options : {"{}", "{ keep: 0% }", "{ keep: 150% }", "{ keep: 50%, cores: 1 }",
                                    "{ keep: 50%, sweeps: -1 }", "{ keep: 50%, bond: 4 }"})
    EXPECT_THROW(configured("mpo", options), Error) << options;
  const auto grid = value_grid_from_name("f16");
  EXPECT_THAT(configured("mpo", "{ keep: 1% }")->cannot_make({{64, 64}, *grid}).value_or(""),
              HasSubstr("keep 1% is less than a train of bond 1 takes, 128 numbers"));
  EXPECT_THAT(configured("mpo", "{ keep: 100% }")->remark({{64, 64}, *grid}), HasSubstr("stored whole, as f16"));
}

}  // namespace
}  // namespace adze
