#include "linalg/factor.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "base/parallel.h"
#include "linalg/linalg_testing.h"

namespace adze {
namespace {

using testing::eigen;
using testing::random_matrix;
using testing::relative_error;
using testing::Strided;

MatrixD from(const testing::EigenRows<double>& values) {
  MatrixD matrix(static_cast<std::size_t>(values.rows()), static_cast<std::size_t>(values.cols()));
  std::copy(values.data(), values.data() + values.size(), matrix.data());
  return matrix;
}

/// X X^T + small I for a random X with more columns than rows.
MatrixD positive_definite(std::size_t n) {
  const auto x = eigen(random_matrix<double>({n, 2 * n + 1}, "x"));
  const auto size = static_cast<Eigen::Index>(n);
  return from(x * x.transpose() + 0.01 * testing::EigenRows<double>::Identity(size, size));
}

void expect_zero_below_diagonal(const MatrixD& r) {
  for (std::size_t i = 0; i < r.rows(); ++i)
    for (std::size_t j = 0; j < i; ++j) EXPECT_EQ(r(i, j), 0.0) << i << "," << j;
}

TEST(ReverseCholesky, TimesItsTransposeIsTheMatrix) {
  for (const std::size_t n : {1, 2, 3, 17, 64, 65, 191, 192, 193, 515, 1100}) {
    const MatrixD h = positive_definite(n);
    MatrixD r = h;
    ASSERT_EQ(reverse_cholesky(r), std::nullopt) << n;
    expect_zero_below_diagonal(r);
    EXPECT_LT(relative_error(eigen(r) * eigen(r).transpose(), eigen(h)), 1e-12) << n;
    for (std::size_t j = 0; j < n; ++j) EXPECT_GT(r(j, j), 0.0);
  }
}

TEST(ReverseCholesky, DiagonalIsTheVarianceGivenTheInputsAfter) {
  const std::size_t n = 12;
  const MatrixD h = positive_definite(n);
  MatrixD r = h;
  ASSERT_EQ(reverse_cholesky(r), std::nullopt);
  for (std::size_t j = 0; j < n; ++j) {
    const auto size = static_cast<Eigen::Index>(n - j);
    const double leading = eigen(h).bottomRightCorner(size, size).inverse()(0, 0);
    EXPECT_NEAR(1.0 / (r(j, j) * r(j, j)), leading, 1e-12 * leading) << j;
  }
}

/// Golden values to the six digits they are published with: H of a 3 x 6 example, damped by 1 % of its mean diagonal.
TEST(ReverseCholesky, MatchesTheGoldenExample) {
  testing::EigenRows<double> h(4, 4);
  h << 7, 11, -4, -1, 11, 20, -3, 2, -4, -3, 7, 5, -1, 2, 5, 8;
  h.diagonal().array() += 0.105;
  testing::EigenRows<double> expected(4, 4);
  expected << 0.488050, 1.973998, -1.687234, -0.351256, 0, 3.892689, -2.111503, 0.702512, 0, 0, 2.005115, 1.756279, 0,
      0, 0, 2.846928;
  testing::EigenRows<double> inverse(4, 4);
  inverse << 2.048968, -1.039040, 0.629965, 0.120570, 0, 0.256892, 0.270522, -0.230277, 0, 0, 0.498725, -0.307665, 0, 0,
      0, 0.351256;
  MatrixD r = from(h);
  ASSERT_EQ(reverse_cholesky(r), std::nullopt);
  EXPECT_LT((eigen(r) - expected).cwiseAbs().maxCoeff(), 6e-7);
  EXPECT_LT((eigen(r).inverse() - inverse).cwiseAbs().maxCoeff(), 2e-6);
}

TEST(ReverseCholesky, NamesTheColumnWhereTheMatrixIsNotPositiveDefinite) {
  constexpr std::size_t kSize = 600;  // several blocks
  for (const std::size_t bad : {0, 1, 191, 192, 383, 384, 599}) {
    for (const double value : {-1.0, 0.0}) {
      MatrixD h(kSize, kSize);
      for (std::size_t j = 0; j < kSize; ++j) h(j, j) = j == bad ? value : 1.0;
      EXPECT_EQ(reverse_cholesky(h), bad) << value;
    }
  }
  MatrixD coupled(3, 3);  // every diagonal entry is positive, the trailing 2 x 2 block is not definite
  coupled(0, 0) = coupled(1, 1) = coupled(2, 2) = 1.0;
  coupled(1, 2) = coupled(2, 1) = 2.0;
  EXPECT_EQ(reverse_cholesky(coupled), 1U);
}

TEST(ReverseCholesky, IsTheSameWithAnyNumberOfThreads) {
  const MatrixD h = positive_definite(700);
  std::vector<MatrixD> factors;
  for (const int threads : {1, 2, 5}) {
    set_thread_count(threads);
    factors.push_back(h);
    ASSERT_EQ(reverse_cholesky(factors.back()), std::nullopt);
  }
  set_thread_count(0);
  for (const MatrixD& factor : factors) EXPECT_TRUE(std::ranges::equal(factor.values(), factors.front().values()));
}

TEST(ReverseCholesky, NeverReturnsAFactorThatIsNotFinite) {
  for (const double value : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    MatrixD h = positive_definite(40);
    h(7, 7) = value;
    EXPECT_TRUE(reverse_cholesky(h).has_value()) << value;
  }
}

TEST(SolveTransposedUpper, IsForwardSubstitutionAndIgnoresTheLowerPart) {
  for (const std::size_t n : {1, 2, 33, 100})
    for (const std::size_t k : {1, 7, 64}) {
      MatrixF r = random_matrix<float>({n, n}, "r");
      for (std::size_t j = 0; j < n; ++j) r(j, j) = 4.0f + static_cast<float>(n) / 8;  // well conditioned
      const MatrixF right = random_matrix<float>({n, k}, "s");
      Strided factor(r, 3);
      Strided y(right, 2);
      solve_transposed_upper(factor.view(), y.view());
      const testing::EigenRows<double> upper = eigen(r).triangularView<Eigen::Upper>();
      EXPECT_LT(relative_error(upper.transpose() * eigen(y.view()), eigen(right)), 1e-5) << n << " " << k;
    }
}

}  // namespace
}  // namespace adze
