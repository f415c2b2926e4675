// One right factor for two blocks: against the stacked optimum where both see the same inputs, at a stationary point
// where they do not, and as stored.
#include "solve/shared/shared_basis.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "grid/factors/product_tensor.h"
#include "grid/factors/shared_tensor.h"
#include "grid/float_grid.h"
#include "metrics/proxy_loss.h"
#include "solve/factors/low_rank.h"
#include "solve/factors/shared_right.h"
#include "solve_testing.h"

namespace adze {
namespace {

using Pair = std::array<SharingLayer, 2>;

SharingLayer layer(Shape shape, std::uint64_t seed) {
  return {to_double(gaussian(shape, seed)), correlated_hessian(shape.cols, seed)};
}

/// sum_i of relative losses with the best left factors, by Eigen: L = W H R^T (R H R^T)^-1.
double loss_of(const Pair& layers, const Eigen::MatrixXd& right) {
  double sum = 0;
  for (const SharingLayer& one : layers) {
    const Eigen::MatrixXd w = eigen(one.weights), h = eigen(one.h);
    const Eigen::MatrixXd left = (right * h * right.transpose()).ldlt().solve(right * h * w.transpose()).transpose();
    const Eigen::MatrixXd difference = w - left * right;
    sum += (difference * h * difference.transpose()).trace() / (w * h * w.transpose()).trace();
  }
  return sum;
}

TEST(SharedRight, IsTheOptimumOfTheStackWhereInputsAreTheSame) {
  Pair layers{layer({12, 16}, 1), layer({12, 16}, 2)};
  layers[1].h = layers[0].h;
  // Equal energies: the sum of relative losses is then that of the stacked weights.
  const auto energy = [&](int i) {
    return (eigen(layers[i].weights) * eigen(layers[i].h) * eigen(layers[i].weights).transpose()).trace();
  };
  const double scale = std::sqrt(energy(0) / energy(1));
  for (double& value : layers[1].weights.values()) value *= scale;
  Eigen::MatrixXd stack(24, 16);
  stack << eigen(layers[0].weights), eigen(layers[1].weights);
  const Eigen::MatrixXd root = eigen(layers[0].h).llt().matrixL();
  const Eigen::VectorXd sigma = Eigen::JacobiSVD<Eigen::MatrixXd>(stack * root).singularValues();
  const double tail = sigma.tail(16 - 5).squaredNorm() / energy(0);
  const SharedRight found = shared_right(layers, 5, 10);
  EXPECT_NEAR(found.losses[0] + found.losses[1], tail, 1e-9 * tail);
  EXPECT_NEAR(loss_of(layers, eigen(found.right)), tail, 1e-9 * tail);
}

TEST(SharedRight, NoSmallChangeOfTheFactorLosesLess) {
  const Pair layers{layer({10, 16}, 3), layer({14, 16}, 4)};
  const SharedRight found = shared_right(layers, 4, 1000);
  const double loss = found.losses[0] + found.losses[1];
  EXPECT_LT(loss, found.first_loss);
  const Eigen::MatrixXd right = eigen(found.right);
  EXPECT_NEAR(loss_of(layers, right), loss, 1e-8 * loss);
  RandomStream random(5, "directions");
  const double step = 1e-2 * right.norm() / std::sqrt(static_cast<double>(right.size()));
  for (int trial = 0; trial < 50; ++trial) {
    Eigen::MatrixXd moved = right;
    for (auto& v : moved.reshaped()) v += step * random.normal();
    EXPECT_GE(loss_of(layers, moved), loss * (1 - 1e-3));
  }
}

TEST(SharedRight, MoreTurnsNeverLoseMore) {
  const Pair layers{layer({24, 20}, 6), layer({24, 20}, 7)};
  double before = shared_right(layers, 6, 0).first_loss;
  for (const int sweeps : {1, 2, 5, 20}) {
    const SharedRight found = shared_right(layers, 6, sweeps);
    EXPECT_LE(found.losses[0] + found.losses[1], before);
    before = found.losses[0] + found.losses[1];
  }
}

TEST(SharedRight, HoldsBothExactlyAtFullRankAndWithInputsThatAreDead) {
  Pair layers{layer({4, 12}, 8), layer({4, 12}, 9)};
  for (SharingLayer& one : layers)
    for (std::size_t i = 0; i < 12; ++i) one.h(3, i) = one.h(i, 3) = 0;
  const SharedRight found = shared_right(layers, 8, 5);
  EXPECT_NEAR(found.losses[0] + found.losses[1], 0, 1e-12);
}

TEST(SharedRight, ALayerOfZerosLeavesTheFactorToTheOther) {
  for (const std::size_t zero : {0, 1}) {
    Pair layers{layer({6, 12}, 8), layer({6, 12}, 9)};
    std::ranges::fill(layers[zero].weights.values(), 0.0);
    const SharedRight found = shared_right(layers, 3, 5);
    EXPECT_EQ(found.losses[zero], 0);
    const Eigen::MatrixXd root = eigen(layers[1 - zero].h).llt().matrixL();
    const Eigen::VectorXd sigma =
        Eigen::JacobiSVD<Eigen::MatrixXd>(eigen(layers[1 - zero].weights) * root).singularValues();
    EXPECT_NEAR(found.losses[1 - zero], sigma.tail(3).squaredNorm() / sigma.squaredNorm(), 1e-9);
  }
}

/// Both sides of a pair, as the pipeline gives them.
struct Solved {
  std::vector<Solution> first, second;
};

Solved solve_pair(const Solver& solver, const std::shared_ptr<const Grid>& grid) {
  const MatrixF a = gaussian({24, 32}, 11), b = gaussian({24, 32}, 12);
  const MatrixD ha = correlated_hessian(32, 11), hb = correlated_hessian(32, 12);
  const auto side = [&](const MatrixF& own, const MatrixD& h, const MatrixF& other, const MatrixD& other_h,
                        const char* owner) {
    const Partner partner{{other.view()}, other_h, {{true, owner}}};
    Problem problem = make_problem(own, h, grid);
    problem.partner = &partner;
    return solver.solve(problem);
  };
  return {side(a, ha, b, hb, ""), side(b, hb, a, ha, "layers.0.self_attn.q_proj")};
}

class SharedBasis : public ::testing::TestWithParam<const char*> {};

TEST_P(SharedBasis, BothBlocksHaveTheSameFactorAndOneStoresIt) {
  const auto solver = configured("shared-basis", GetParam());
  const auto grid = make_float_grid(DType::f16);
  const Solved solved = solve_pair(*solver, grid);
  const auto& first = dynamic_cast<const ProductTensor&>(*solved.first[0].tensor);
  const auto& second = dynamic_cast<const ProductTensor&>(*solved.second[0].tensor);
  const auto& shared = dynamic_cast<const SharedTensor&>(second.right());
  EXPECT_TRUE(std::ranges::equal(first.right().payload(), shared.factor()->payload()));
  EXPECT_EQ(second.bytes(), second.left().bytes());
  const Target owner{{24, 32}, *grid, nullptr, {true, ""}};
  const Target follower{{24, 32}, *grid, nullptr, {true, "layers.0.self_attn.q_proj"}};
  EXPECT_EQ(first.format(), solver->format(owner));
  EXPECT_EQ(second.format(), solver->format(follower));
  EXPECT_LE(first.bytes() + second.bytes(), 2U * 7 * 24 * 32 * 2 / 10);
}

INSTANTIATE_TEST_SUITE_P(Forms, SharedBasis,
                         ::testing::Values("{ keep: 70%, align: 1 }", "{ keep: 70%, align: 1, form: pivoted }"));

TEST(SharedBasisAlone, HasFactorsOfItsOwn) {
  const auto solver = configured("shared-basis", "{ keep: 70%, align: 1 }");
  const auto grid = make_float_grid(DType::f16);
  const MatrixF w = gaussian({24, 32}, 11);
  const MatrixD h = correlated_hessian(32, 11);
  const std::vector<Solution> alone = solver->solve(make_problem(w, h, grid));
  const std::vector<Solution> svd = configured("svd", "{ keep: 70%, align: 1 }")->solve(make_problem(w, h, grid));
  EXPECT_EQ(alone[0].tensor->format(), svd[0].tensor->format());
  EXPECT_NEAR(alone[0].report.loss, svd[0].report.loss, 1e-6 * svd[0].report.loss);
  EXPECT_THAT(solver->remark({{24, 32}, *grid}), ::testing::HasSubstr("no neighbouring block"));
}

}  // namespace
}  // namespace adze
