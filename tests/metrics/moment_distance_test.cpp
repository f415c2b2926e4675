#include "metrics/moment_distance.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "base/random.h"
#include "linalg/linalg_testing.h"

namespace adze {
namespace {

using testing::eigen;
using testing::EigenRows;
using testing::random_matrix;

MatrixD to_matrix(const EigenRows<double>& values) {
  MatrixD matrix(static_cast<std::size_t>(values.rows()), static_cast<std::size_t>(values.cols()));
  std::copy(values.data(), values.data() + values.size(), matrix.data());
  return matrix;
}

/// X^T X of `tokens` normal rows whose columns differ in scale and go together.
MatrixD moment(std::size_t n, std::size_t tokens, const std::string& name) {
  EigenRows<double> x = eigen(random_matrix<double>({tokens, n}, name));
  const EigenRows<double> mix = eigen(random_matrix<double>({n, n}, "mix of " + name));
  const EigenRows<double> y = x * (EigenRows<double>::Identity(n, n) + 0.3 * mix);
  return to_matrix(y.transpose() * y);
}

EigenRows<double> damped(const ComparedMoment& m) { return eigen(m.damped()); }

MatrixD diagonal(std::initializer_list<double> values) {
  MatrixD matrix(values.size(), values.size());
  std::size_t j = 0;
  for (const double value : values) matrix(j, j) = value, ++j;
  return matrix;
}

TEST(MomentDistance, AgreesWithItsFormulasThroughInversesAndDeterminants) {
  const ComparedMoment a(moment(12, 40, "a")), b(moment(12, 40, "b"));
  const MomentDistance d = distance_of(a, b);
  const EigenRows<double> ratio = damped(a) * damped(b).inverse();
  EXPECT_NEAR(d.stein, ratio.trace() - std::log(ratio.determinant()) - 12, 1e-8);
  const double halves = std::log((0.5 * (damped(a) + damped(b))).determinant());
  EXPECT_NEAR(d.s_divergence, halves - 0.5 * std::log((damped(a) * damped(b)).determinant()), 1e-8);
  Eigen::VectorXd logs = ratio.eigenvalues().real().array().log();
  EXPECT_NEAR(d.affine_invariant, logs.norm(), 1e-8);
  EXPECT_NEAR(d.hilbert, logs.maxCoeff() - logs.minCoeff(), 1e-8);
  EXPECT_NEAR(d.frobenius, (eigen(a.moment()) - eigen(b.moment())).norm() / eigen(b.moment()).norm(), 1e-12);
}

// Specification evaluation.md, 12.3: A = diag(2, 1), B = I, without normalisation and damping.
TEST(MomentDistance, HasTheSpecifiedValuesWhereDampingHardlyCounts) {
  // Normalised to a trace of n and damped by 0.01, diag(2, 1) becomes diag(4/3, 2/3) + 0.01 I and I 1.01 I.
  const ComparedMoment a(diagonal({2, 1})), b(diagonal({1, 1}));
  const MomentDistance d = distance_of(a, b);
  const double m1 = (4.0 / 3 + 0.01) / 1.01, m2 = (2.0 / 3 + 0.01) / 1.01;
  EXPECT_NEAR(d.stein, m1 + m2 - std::log(m1 * m2) - 2, 1e-12);
  EXPECT_NEAR(d.hilbert, std::log(m1 / m2), 1e-12);
  EXPECT_NEAR(d.hilbert, 0.693147, 0.01);
  EXPECT_NEAR(d.s_divergence, std::log((m1 + 1) / 2) + std::log((m2 + 1) / 2) - 0.5 * std::log(m1 * m2), 1e-12);
}

TEST(MomentDistance, IsZeroForEqualMomentsAndDoesNotSeeTheirScale) {
  const MatrixD h = moment(20, 50, "same");
  MatrixD louder = h;
  for (double& value : louder.values()) value *= 37.5;
  const ComparedMoment a(h), b(louder);
  const MomentDistance d = distance_of(a, b);
  EXPECT_NEAR(d.frobenius, 0, 1e-14);
  EXPECT_NEAR(d.stein, 0, 1e-10);
  EXPECT_NEAR(d.s_divergence, 0, 1e-10);
  EXPECT_NEAR(d.hilbert, 0, 1e-8);
  EXPECT_NEAR(correlation_distance(a, b), 0, 1e-14);
  EXPECT_NEAR(expected_loss(a, a) / expected_loss(b, a), 1, 1e-12);
  EXPECT_NEAR(b.mean_square() / a.mean_square(), 37.5, 1e-9);
}

TEST(MomentDistance, IsSymmetricWhereItIsCalledSo) {
  const ComparedMoment a(moment(9, 30, "p")), b(moment(9, 30, "q"));
  const MomentDistance ab = distance_of(a, b), ba = distance_of(b, a);
  EXPECT_NEAR(ab.s_divergence, ba.s_divergence, 1e-10);
  EXPECT_NEAR(ab.hilbert, ba.hilbert, 1e-9);
  EXPECT_NEAR(ab.affine_invariant, ba.affine_invariant, 1e-9);
  EXPECT_GT(ab.stein, 0);
  EXPECT_GT(std::abs(ab.stein - ba.stein), 1e-6);
}

/// A few tokens for many columns, some of which are always zero: all but singular, as moments of thin sets are.
MatrixD thin_moment(std::size_t n, std::size_t tokens, const std::string& name) {
  MatrixD h = moment(n, tokens, name);
  for (std::size_t dead = 1; dead < n; dead += 7)
    for (std::size_t c = 0; c < n; ++c) h(dead, c) = h(c, dead) = 0;
  return h;
}

TEST(MomentDistance, OnePencilGivesBothDirections) {
  const std::pair<MatrixD, MatrixD> cases[] = {{moment(40, 90, "a"), moment(40, 90, "b")},
                                               {thin_moment(150, 6, "a"), thin_moment(150, 9, "b")},
                                               {thin_moment(40, 3, "a"), moment(40, 90, "b")}};
  for (const auto& [of_a, of_b] : cases) {
    const ComparedMoment a(of_a), b(of_b);
    const auto [there, back] = distances_between(a, b);
    const MomentDistance expected[] = {distance_of(a, b), distance_of(b, a)};
    const MomentDistance given[] = {there, back};
    for (std::size_t i = 0; i < 2; ++i)
      for (const auto measure : {&MomentDistance::frobenius, &MomentDistance::stein, &MomentDistance::s_divergence,
                                 &MomentDistance::affine_invariant, &MomentDistance::hilbert})
        EXPECT_NEAR(given[i].*measure / expected[i].*measure, 1, 1e-9) << a.inputs() << " " << i;
    EXPECT_GT(std::abs(there.stein / back.stein - 1), 1e-3) << "directions that are alike would tell nothing";
  }
}

TEST(MomentDistance, FallsWithTheRootOfTheNumberOfTokens) {
  // Independent tokens of one distribution: the slope of log distance over log tokens is -1/2.
  const std::size_t n = 16;
  const EigenRows<double> all = eigen(random_matrix<double>({200000, n}, "tokens"));
  const ComparedMoment truth(to_matrix(EigenRows<double>::Identity(n, n)));
  double previous = 0;
  for (const Eigen::Index tokens : {500, 8000, 128000}) {
    const EigenRows<double> x = all.topRows(tokens);
    const double distance = frobenius_distance(ComparedMoment(to_matrix(x.transpose() * x)), truth);
    if (previous > 0) {
      EXPECT_NEAR(std::log(distance / previous) / std::log(16.0), -0.5, 0.08);
    }
    previous = distance;
  }
}

TEST(MomentProfile, CountsDimensions) {
  // Specification evaluation.md, 12.3: singular values (3, 1, 1, 0) have an effective rank of 2.586409.
  const MomentProfile p = profile_of(ComparedMoment(diagonal({3, 1, 1, 0})));
  EXPECT_NEAR(p.effective_rank, 2.586409, 1e-6);
  EXPECT_NEAR(p.stable_rank, 5.0 / 3, 1e-12);
  EXPECT_NEAR(p.participation, 25.0 / 11, 1e-12);
  EXPECT_EQ(p.dead, 1u);
  EXPECT_EQ(p.leading, 3u);  // 3 + 1 of 5 are 80 %
}

TEST(MomentProfile, CapturesAllOfItselfButATenth) {
  const ComparedMoment a(moment(30, 100, "captured"));
  const double captured = captured_share(profile_of(a), a);
  EXPECT_GE(captured, 0.9);
  EXPECT_LE(captured, 1);
  const ComparedMoment first(diagonal({1, 0, 0})), second(diagonal({0, 1, 1}));
  EXPECT_NEAR(captured_share(profile_of(first), second), 0, 1e-12);
  EXPECT_EQ(outlier_overlap(first, second), 0);
  EXPECT_EQ(outlier_overlap(first, first), 1);
}

// The claim behind stage 1: errors of columns, taken back by later columns as GPTQ does, lose tr(T B T^T) on average.
TEST(ExpectedLoss, IsWhatGptqLosesOnAverage) {
  const std::size_t n = 10;
  const ComparedMoment a(moment(n, 60, "calibrated")), b(moment(n, 60, "judge"));
  const EigenRows<double> inverse = damped(a).inverse();
  const EigenRows<double> judge = eigen(b.moment());
  RandomStream random(3, "rounding errors");
  double lost = 0;
  constexpr int kRows = 20000;
  for (int row = 0; row < kRows; ++row) {
    // OBS column by column on weights w with a rounding error e: later weights move by -e H^-1[j, later] / H^-1[j, j],
    // H^-1 of the columns that are left.
    Eigen::RowVectorXd change = Eigen::RowVectorXd::Zero(n);
    EigenRows<double> left = inverse;
    for (std::size_t j = 0; j < n; ++j) {
      const double error = random.uniform() - 0.5;
      const auto k = static_cast<Eigen::Index>(j);
      // Rounding moves this column's weight by `error` on top of what it was moved already; others follow.
      const Eigen::RowVectorXd step = error / left(k, k) * left.row(k);
      change += step;
      const EigenRows<double> gone = left.col(k) * left.row(k) / left(k, k);
      left -= gone;
    }
    lost += (change * judge * change.transpose())(0, 0);
  }
  EXPECT_NEAR(lost / kRows * 12 / expected_loss(a, b), 1, 0.03);
}

/// tr(T B T^T), T = diag(R_jj) R^-1 as it is written, from the Cholesky factor of the reversed matrix.
double plain_loss(const ComparedMoment& a, const ComparedMoment& b) {
  const EigenRows<double> reversed = damped(a).reverse();
  const EigenRows<double> lower = reversed.llt().matrixL();
  const EigenRows<double> r = lower.reverse();  // upper triangular, r r^T = damped(a)
  const EigenRows<double> t = r.diagonal().asDiagonal() * r.inverse();
  return (t * eigen(b.moment()) * t.transpose()).trace();
}

TEST(ExpectedLoss, AgreesWithItsFormulaForMomentsOfAllRanks) {
  const std::size_t n = 200;  // more than one strip of the product
  std::vector<ComparedMoment> moments;
  for (const std::size_t tokens : {1, 6, 150, 500}) {
    moments.emplace_back(moment(n, tokens, "m" + std::to_string(tokens)));
    moments.emplace_back(thin_moment(n, tokens, "thin" + std::to_string(tokens)));
  }
  for (const ComparedMoment& a : moments)
    for (const ComparedMoment& b : moments) EXPECT_NEAR(expected_loss(a, b) / plain_loss(a, b), 1, 1e-9);
}

TEST(ExpectedLoss, IsLinearInTheJudge) {
  const ComparedMoment a(moment(30, 60, "a")), b(moment(30, 60, "b")), c(moment(30, 60, "c"));
  MatrixD sum = b.moment();
  for (std::size_t i = 0; i < sum.values().size(); ++i) sum.values()[i] += c.moment().values()[i];
  const MatrixD errors = error_moment(a);
  const double mean = (expected_loss(errors, b) + expected_loss(errors, c)) / 2;
  EXPECT_NEAR(expected_loss(errors, ComparedMoment(sum)) / mean, 1, 1e-12);
  EXPECT_THROW(expected_loss(errors, ComparedMoment(moment(31, 60, "other"))), Error);
}

TEST(ExpectedLoss, IsLeastForTheJudgeItself) {
  for (const char* name : {"one", "two", "three"}) {
    const ComparedMoment judge(moment(24, 80, name)), other(moment(24, 80, std::string("not ") + name));
    EXPECT_LT(expected_loss(judge, judge), expected_loss(other, judge));
  }
}

TEST(ComparedMoment, RefusesWhatCannotBeCompared) {
  EXPECT_THROW(ComparedMoment(MatrixD(3, 3)), Error);
  MatrixD h = moment(4, 9, "nan");
  h(1, 1) = std::nan("");
  EXPECT_THROW(ComparedMoment{h}, Error);
  h = moment(4, 9, "nan");
  h(0, 2) = h(2, 0) = std::nan("");  // which the trace does not show
  EXPECT_THROW(error_moment(ComparedMoment(h)), Error);
  EXPECT_THROW(distance_of(ComparedMoment(h), ComparedMoment(moment(4, 9, "x"))), Error);
  EXPECT_THROW(distance_of(ComparedMoment(moment(4, 9, "x")), ComparedMoment(moment(5, 9, "x"))), Error);
  EXPECT_THROW(captured_share(profile_of(ComparedMoment(moment(4, 9, "x"))), ComparedMoment(moment(5, 9, "x"))), Error);
}

}  // namespace
}  // namespace adze
