#include "linalg/eigen.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/error.h"
#include "linalg/gemm.h"
#include "linalg/inverse.h"
#include "linalg_testing.h"

namespace adze {
namespace {

using testing::eigen;
using testing::EigenRows;
using testing::random_matrix;

MatrixD symmetric(std::size_t n) { return gram(random_matrix<double>({n, n}, "symmetric")); }

double largest(const EigenRows<double>& matrix) { return matrix.size() == 0 ? 0 : matrix.cwiseAbs().maxCoeff(); }

TEST(SymmetricEigen, GivesOrthonormalRowsThatRebuildTheMatrix) {
  for (const std::size_t n : {1, 2, 5, 64, 130}) {
    const MatrixD a = symmetric(n);
    const SymmetricEigen found = symmetric_eigen(a);
    const EigenRows<double> v = eigen(found.vectors);
    Eigen::VectorXd values(n);
    for (std::size_t i = 0; i < n; ++i) values(static_cast<Eigen::Index>(i)) = found.values[i];
    EXPECT_LT(largest(v * v.transpose() - EigenRows<double>::Identity(v.rows(), v.rows())), 1e-12);
    EXPECT_LT(largest(v.transpose() * values.asDiagonal() * v - eigen(a)), 1e-11 * found.values.front());
    EXPECT_TRUE(std::ranges::is_sorted(found.values, std::greater<>()));
  }
}

TEST(SymmetricEigen, ValuesAloneAreTheSame) {
  for (const std::size_t n : {0, 1, 5, 64}) {
    const std::vector<double> all = symmetric_eigen(symmetric(n)).values, alone = symmetric_eigenvalues(symmetric(n));
    ASSERT_EQ(alone.size(), n);
    for (std::size_t i = 0; i < n; ++i) EXPECT_NEAR(alone[i], all[i], 1e-11 * all[0]);
  }
}

TEST(SymmetricEigen, AgreesWithEigensOwn) {
  const MatrixD a = symmetric(40);
  const Eigen::SelfAdjointEigenSolver<EigenRows<double>> reference(eigen(a));
  const SymmetricEigen found = symmetric_eigen(a);
  for (std::size_t i = 0; i < 40; ++i)
    EXPECT_NEAR(found.values[i], reference.eigenvalues()(static_cast<Eigen::Index>(39 - i)), 1e-11 * found.values[0]);
}

TEST(SymmetricEigen, ValuesAloneAreThoseOfThePairs) {
  for (const std::size_t n : {0, 1, 30}) {
    const std::vector<double> alone = symmetric_eigenvalues(symmetric(n));
    const SymmetricEigen pairs = symmetric_eigen(symmetric(n));
    ASSERT_EQ(alone.size(), n);
    for (std::size_t i = 0; i < n; ++i) EXPECT_NEAR(alone[i], pairs.values[i], 1e-12 * pairs.values[0]);
  }
}

TEST(LeadingEigen, IsTheHeadOfAllPairs) {
  const MatrixD a = symmetric(50);
  const SymmetricEigen all = symmetric_eigen(a);
  for (const std::size_t count : {0, 1, 7, 50}) {
    const SymmetricEigen head = leading_eigen(a, count);
    ASSERT_EQ(head.values.size(), count);
    ASSERT_EQ(head.vectors.shape(), (Shape{count, 50}));
    for (std::size_t i = 0; i < count; ++i) {
      EXPECT_NEAR(head.values[i], all.values[i], 1e-11 * all.values[0]);
      double product = 0;
      for (std::size_t c = 0; c < 50; ++c) product += head.vectors(i, c) * all.vectors(i, c);
      EXPECT_NEAR(std::fabs(product), 1, 1e-9);
    }
  }
}

/// Q diag(values) Q^T with random Q.
MatrixD with_spectrum(const std::vector<double>& values, const char* key) {
  const std::size_t n = values.size();
  const MatrixD q = polar_factor(random_matrix<double>({n, n}, key));
  MatrixD scaled = q;
  for (std::size_t r = 0; r < n; ++r)
    for (std::size_t c = 0; c < n; ++c) scaled(r, c) *= values[c];
  return product_nt(scaled, q);
}

TEST(SketchedEigen, FindsAllOfAMatrixOfThatRank) {
  std::vector<double> values(60);
  for (std::size_t i = 0; i < 6; ++i) values[i] = 10.0 - static_cast<double>(i);
  const MatrixD a = with_spectrum(values, "low");
  const SymmetricEigen found = sketched_eigen(60, 6, [&](const MatrixD& rows) { return product_nn(rows, a); });
  const MatrixD gram_matrix = gram(found.vectors);
  for (std::size_t r = 0; r < 6; ++r) {
    EXPECT_NEAR(found.values[r], values[r], 1e-9);
    for (std::size_t c = 0; c < 6; ++c) EXPECT_NEAR(gram_matrix(r, c), r == c, 1e-12);
  }
}

/// What is left is hardly more than the leading pairs leave; where the spectrum is flat, other directions are as good.
TEST(SketchedEigen, LeavesHardlyMoreThanTheLeadingPairs) {
  for (const double decay : {0.3, 0.7, 1.5}) {
    std::vector<double> values;
    double best = 0, all = 0;
    for (std::size_t i = 0; i < 400; ++i) values.push_back(std::pow(static_cast<double>(i + 1), -decay));
    for (std::size_t i = 0; i < 400; ++i) (i < 24 ? best : all) += values[i];
    all += best;
    const MatrixD a = with_spectrum(values, "slow");
    const auto times = [&](const MatrixD& rows) { return product_nn(rows, a); };
    const SymmetricEigen found = sketched_eigen(400, 24, times);
    double captured = 0;
    for (const double value : found.values) captured += value;
    EXPECT_LE(captured, best * (1 + 1e-12));
    EXPECT_LT(all - captured, 1.01 * (all - best)) << decay;
    EXPECT_EQ(sketched_eigen(400, 24, times).vectors.values()[7], found.vectors.values()[7]);
  }
  EXPECT_EQ(sketched_eigen(5, 0, [](const MatrixD& rows) { return rows; }).vectors.rows(), 0U);
}

TEST(SymmetricEigen, RefusesWhatIsNotFinite) {
  MatrixD a = symmetric(8);
  a(2, 2) = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW(symmetric_eigen(a), Error);
}

TEST(SingularValues, RebuildTallAndWideMatrices) {
  for (const Shape shape : {Shape{9, 4}, Shape{4, 9}, Shape{5, 5}, Shape{1, 3}}) {
    const MatrixD a = random_matrix<double>(shape, "svd");
    const SingularValues svd = singular_values(a);
    EigenRows<double> scaled = eigen(svd.u);
    for (Eigen::Index i = 0; i < scaled.cols(); ++i) scaled.col(i) *= svd.values[static_cast<std::size_t>(i)];
    EXPECT_LT(largest(scaled * eigen(svd.vt) - eigen(a)), 1e-13);
    EXPECT_TRUE(std::ranges::is_sorted(svd.values, std::greater<>()));
  }
}

/// g with singular values from 1 down to 1 / condition.
MatrixD with_condition(Shape shape, double condition) {
  SingularValues svd = singular_values(random_matrix<double>(shape, "condition"));
  for (std::size_t i = 0; i < svd.values.size(); ++i)
    for (double& v : svd.vt.row(i))
      v *= std::pow(condition, -static_cast<double>(i) / static_cast<double>(svd.values.size() - 1));
  return product_nn(svd.u, svd.vt);
}

TEST(PolarFactor, IsThatOfTheSingularValueDecomposition) {
  for (const double condition : {1.0, 2.3e3, 1e6, 1e12}) {
    const MatrixD g = with_condition({60, 24}, condition);
    const MatrixD p = polar_factor(g);
    const SingularValues svd = singular_values(g);
    EXPECT_LT(largest(eigen(p).transpose() * eigen(p) - EigenRows<double>::Identity(24, 24)), 1e-10) << condition;
    EXPECT_LT(largest(eigen(p) - eigen(product_nn(svd.u, svd.vt))),
              std::min(1e-3, 1e-10 + 1e-16 * condition * condition))
        << condition;
  }
}

TEST(PolarFactor, OfASingularMatrixHasOrthonormalColumns) {
  MatrixD g = random_matrix<double>({20, 6}, "singular");
  for (std::size_t r = 0; r < 20; ++r) g(r, 5) = g(r, 0), g(r, 4) = 0;
  const MatrixD p = polar_factor(g);
  EXPECT_LT(largest(eigen(p).transpose() * eigen(p) - EigenRows<double>::Identity(6, 6)), 1e-12);
}

TEST(PolarFactor, IsNearerThanRandomOrthonormalColumns) {
  const MatrixD g = random_matrix<double>({12, 5}, "procrustes");
  const double best = (eigen(polar_factor(g)) - eigen(g)).squaredNorm();
  for (int i = 0; i < 50; ++i) {
    const SingularValues other = singular_values(random_matrix<double>({12, 5}, "other" + std::to_string(i)));
    EXPECT_LE(best, (eigen(other.u) - eigen(g)).squaredNorm());
  }
}

TEST(PivotColumns, ComeFirstByDistanceAndTheOthersAscend) {
  MatrixD a(2, 4);
  const double values[] = {0.1, 3, 1, 0, 0, 0, 2, 0.5};
  std::ranges::copy(values, a.data());
  EXPECT_THAT(pivot_columns(a), ::testing::ElementsAre(1, 2, 0, 3));
  EXPECT_THAT(pivot_columns(MatrixD(0, 3)), ::testing::ElementsAre(0, 1, 2));
}

TEST(SolveGeneral, SolvesForEveryRow) {
  MatrixD a = random_matrix<double>({7, 7}, "general");
  const MatrixD wanted = random_matrix<double>({3, 7}, "x");
  MatrixD y = product_nt(wanted, a);
  ASSERT_TRUE(solve_general(a, y));
  EXPECT_LT(largest(eigen(y) - eigen(wanted)), 1e-11);
  MatrixD zero(3, 3);
  MatrixD rhs(1, 3);
  EXPECT_FALSE(solve_general(zero, rhs));
}

TEST(LargeProducts, AreThoseOfEigen) {
  const MatrixD a = random_matrix<double>({300, 40}, "a"), b = random_matrix<double>({40, 33}, "b"),
                c = random_matrix<double>({300, 17}, "c");
  EXPECT_LT(largest(eigen(product_nn(a, b)) - eigen(a) * eigen(b)), 1e-12);
  EXPECT_LT(largest(eigen(product_nt(a, a)) - eigen(a) * eigen(a).transpose()), 1e-12);
  EXPECT_LT(largest(eigen(product_tn(a, c)) - eigen(a).transpose() * eigen(c)), 1e-12);
  EXPECT_LT(largest(eigen(gram(a)) - eigen(a) * eigen(a).transpose()), 1e-12);
}

}  // namespace
}  // namespace adze
