#include "solve/gptq/shift.h"

#include <gtest/gtest.h>

#include <cmath>

#include "solve/gptq/gptq.h"
#include "solve_testing.h"

namespace adze {
namespace {

using Eigen::MatrixXd;

MatrixXd random_matrix(Eigen::Index rows, Eigen::Index cols, std::uint64_t seed) {
  RandomStream random(seed, "shift");
  MatrixXd m(rows, cols);
  for (auto& v : m.reshaped()) v = random.normal();
  return m;
}

template <typename T>
Matrix<T> as_matrix(const MatrixXd& m) {
  Matrix<T> result(static_cast<std::size_t>(m.rows()), static_cast<std::size_t>(m.cols()));
  for (Eigen::Index i = 0; i < m.rows(); ++i)
    for (Eigen::Index j = 0; j < m.cols(); ++j)
      result(static_cast<std::size_t>(i), static_cast<std::size_t>(j)) = static_cast<T>(m(i, j));
  return result;
}

/// Inputs x that have drifted from x_reference, and states that have drifted as well: [features x tokens].
struct Drifted {
  MatrixXd w = random_matrix(20, 24, 1);
  MatrixXd reference = random_matrix(24, 24, 5) * random_matrix(24, 200, 2);
  MatrixXd x = reference + 0.3 * random_matrix(24, 24, 6) * random_matrix(24, 200, 3);
  MatrixXd state_gap = random_matrix(20, 20, 7) * x.topRows(20) * 0.1 + random_matrix(20, 200, 4);
};

TEST(Shift, IsTheRidgeRegressionOfTheOriginalOutputs) {
  const Drifted d;
  for (const bool joins_states : {false, true}) {
    const MatrixF w = as_matrix<float>(d.w);
    const MatrixD h = as_matrix<double>(d.x * d.x.transpose());
    const MatrixF cross = as_matrix<float>((d.reference - d.x) * d.x.transpose());
    const MatrixF residual = as_matrix<float>(d.state_gap * d.x.transpose());
    Problem problem = make_problem(w, h, std::make_shared<FixedGrid>());
    problem.cross = cross;
    if (joins_states) problem.residual = {residual};
    MatrixXd wanted = d.w * d.reference;
    if (joins_states) wanted += d.state_gap;
    // Ridge regression of the change by QR of the tokens themselves, the ridge as tokens of its own: neither H nor a
    // cross moment is formed.
    const double ridge = 0.3 * (d.x * d.x.transpose()).diagonal().mean();
    MatrixXd tokens = MatrixXd::Zero(224, 24), change = MatrixXd::Zero(224, 20);
    tokens.topRows(200) = d.x.transpose();
    tokens.bottomRows(24).diagonal().setConstant(std::sqrt(ridge));
    change.topRows(200) = (wanted - d.w * d.x).transpose();
    const MatrixXd expected = d.w + tokens.colPivHouseholderQr().solve(change).transpose();
    std::string remarks;
    const MatrixF full = shifted_targets(problem, 1, remarks).at(0);
    const MatrixF half = shifted_targets(problem, 0.5, remarks).at(0);
    EXPECT_EQ(remarks, "");
    for (std::size_t i = 0; i < 20; ++i)
      for (std::size_t j = 0; j < 24; ++j) {
        const double e = expected(static_cast<Eigen::Index>(i), static_cast<Eigen::Index>(j));
        EXPECT_NEAR(full(i, j), e, 1e-4 * expected.cwiseAbs().maxCoeff());
        EXPECT_NEAR(half(i, j), 0.5 * (full(i, j) + w(i, j)), 1e-5);
      }
  }
}

TEST(Shift, BringsTheOutputOfAQuantizedLayerNearerToTheOriginalOne) {
  const Drifted d;
  const MatrixF w = as_matrix<float>(d.w);
  const MatrixD h = as_matrix<double>(d.x * d.x.transpose());
  const MatrixF cross = as_matrix<float>((d.reference - d.x) * d.x.transpose());
  const auto distance = [&](const std::string& options) {
    Problem problem = make_problem(w, h, std::make_shared<FixedGrid>(0.25f, -16, 15));
    problem.cross = cross;
    const MatrixF values = configured("gptq", options)->solve(problem)[0].tensor->decode();
    double sum = 0;
    MatrixXd what(20, 24);
    for (Eigen::Index i = 0; i < 20; ++i)
      for (Eigen::Index j = 0; j < 24; ++j)
        what(i, j) = double{values(static_cast<std::size_t>(i), static_cast<std::size_t>(j))};
    sum = (what * d.x - d.w * d.reference).squaredNorm();
    return sum;
  };
  EXPECT_LT(distance("{ shift: 1 }"), 0.9 * distance("{ shift: 0 }"));
  EXPECT_LT(distance("{ shift: 0.5 }"), distance("{ shift: 0 }"));
}

TEST(Shift, IsAskedForByItsOption) {
  EXPECT_TRUE(configured("gptq", "{ shift: 0.5 }")->wants_reference());
  EXPECT_FALSE(configured("gptq", "{ shift: 0 }")->wants_reference());
  EXPECT_FALSE(configured("rtn")->wants_reference());
}

TEST(Shift, ChangesNothingWithoutACrossMoment) {
  const MatrixF w = gaussian({64, 128}, 50);
  const MatrixD h = correlated_hessian(128, 51);
  const auto grid = grid_from_name("int4 g32 sym");
  const auto with = configured("gptq", "{ shift: 1 }")->solve(make_problem(w, h, grid))[0];
  const auto without = configured("gptq", "{ shift: 0 }")->solve(make_problem(w, h, grid))[0];
  EXPECT_TRUE(std::ranges::equal(with.tensor->payload(), without.tensor->payload()));
}

}  // namespace
}  // namespace adze
