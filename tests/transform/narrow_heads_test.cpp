// Narrower heads: which pairs go, and that what becomes of values and output is the best there is.
#include "transform/narrow_heads.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <Eigen/Dense>

#include "linalg/linalg_testing.h"
#include "metrics/proxy_loss.h"
#include "transform/block_inputs.h"
#include "transform/least_groups.h"
#include "transform/rotation_testing.h"

namespace adze {
namespace {

using testing::biased_architecture;
using testing::BlockInputsOf;
using testing::eigen;
using testing::make_transform;
using testing::shared_model;
using testing::small_architecture;

using Dense = Eigen::MatrixXd;

Eigen::Index index(std::size_t i) { return static_cast<Eigen::Index>(i); }

/// What its survey of one block makes of it.
std::shared_ptr<const Transform> surveyed(const Transform& transform, const BlockWeights& block,
                                          const BlockInputsOf& made) {
  const auto survey = transform.survey();
  EXPECT_TRUE(survey->wants(Stage::qkv));
  EXPECT_FALSE(survey->wants(Stage::down));
  survey->see(Stage::qkv, made.inputs[Stage::qkv], block);
  return survey->result();
}

/// W before and after of a linear, with the bias as a last column.
Dense with_bias(const Linear& linear) {
  Dense all(index(linear.weight->shape().rows), index(linear.weight->shape().cols) + 1);
  all.leftCols(all.cols() - 1) = eigen(linear.weight->decode());
  for (Eigen::Index r = 0; r < all.rows(); ++r)
    all(r, all.cols() - 1) = linear.bias.empty() ? 0.0 : double{linear.bias[static_cast<std::size_t>(r)]};
  return all;
}

TEST(NarrowHeads, KeepTheRowsOfThePairsThatCarryMostOfTheScores) {
  const Architecture a = biased_architecture();  // heads of 20
  const BlockWeights block = shared_model(a)->block(1);
  const BlockInputsOf made(a, block, "narrow");
  const auto narrow = surveyed(*make_transform("narrow-heads", "keep: 60%, align: 4", a), block, made);
  const Architecture after = narrow->architecture(a);
  ASSERT_EQ(after.head_dim, 12U);
  ASSERT_EQ(after.rope.divisors.size(), 6U);
  // By definition, over the tokens that were made up.
  const auto outputs = [&](LinearSlot slot) {
    const MatrixF& x = made.x.at(Stage::qkv);
    Dense rows(index(x.rows()), index(x.cols()) + 1);
    rows.leftCols(index(x.cols())) = eigen(x);
    rows.rightCols(1).setOnes();
    return Dense(rows * with_bias(block[slot]).transpose());
  };
  const Dense q = outputs(LinearSlot::q), k = outputs(LinearSlot::k);
  std::vector<std::pair<double, std::size_t>> energies;
  for (std::size_t pair = 0; pair < 10; ++pair) {
    double sum = 0;
    for (std::size_t head = 0; head < a.heads; ++head) {
      const auto energy = [&](const Dense& y, std::size_t of) {
        return y.col(index(of * 20 + pair)).squaredNorm() + y.col(index(of * 20 + 10 + pair)).squaredNorm();
      };
      sum += energy(q, head) * energy(k, head / (a.heads / a.kv_heads));
    }
    energies.emplace_back(-sum, pair);
  }
  std::ranges::sort(energies);
  std::vector<std::size_t> pairs;
  for (std::size_t i = 0; i < 6; ++i) pairs.push_back(energies[i].second);
  std::ranges::sort(pairs);
  const BlockWeights cut = narrow->block(block, 1, &made.inputs);
  for (const auto& [slot, heads, factor] :
       {std::tuple{LinearSlot::q, a.heads, std::sqrt(12.0 / 20)}, {LinearSlot::k, a.kv_heads, 1.0}}) {
    const Dense whole = with_bias(block[slot]), kept = with_bias(cut[slot]);
    ASSERT_EQ(kept.rows(), index(heads * 12));
    for (std::size_t head = 0; head < heads; ++head)
      for (std::size_t i = 0; i < 12; ++i) {
        const std::size_t row = head * 20 + (i / 6) * 10 + pairs[i % 6];
        const Dense difference = kept.row(index(head * 12 + i)) - factor * whole.row(index(row));
        EXPECT_LT(difference.norm(), 1e-5);
      }
  }
  for (std::size_t i = 0; i < 6; ++i)
    EXPECT_NEAR(std::pow(1e4, -2.0 * static_cast<double>(i) / 12) / after.rope.divisors[i],
                std::pow(1e4, -2.0 * static_cast<double>(pairs[i]) / 20), 1e-12);
}

/// E with W_V' = E W_V, of all groups, repeated for their query heads: [heads * left x heads * wide].
Dense encoder(const Architecture& a, const BlockWeights& before, const BlockWeights& after, std::size_t left) {
  const Dense wide = with_bias(before[LinearSlot::v]), narrow = with_bias(after[LinearSlot::v]);
  Dense all = Dense::Zero(index(a.heads * left), index(a.heads * a.head_dim));
  for (std::size_t head = 0; head < a.heads; ++head) {
    const std::size_t group = head / (a.heads / a.kv_heads);
    const Dense v = wide.middleRows(index(group * a.head_dim), index(a.head_dim));
    const Dense made = narrow.middleRows(index(group * left), index(left));
    const Dense e = v.transpose().colPivHouseholderQr().solve(made.transpose()).transpose();
    EXPECT_LT((e * v - made).norm(), 1e-4 * made.norm());
    all.block(index(head * left), index(head * a.head_dim), index(left), index(a.head_dim)) = e;
  }
  return all;
}

Dense half(const Dense& symmetric) {  // its symmetric square root
  return Eigen::SelfAdjointEigenSolver<Dense>(symmetric).operatorSqrt();
}

/// One query head per group, and heads that do not go together: then each group's loss is the tail of a spectrum, which
/// no other values and output of that size undercut.
TEST(NarrowHeads, LoseTheTailOfTheSpectrumInValuesAndOutput) {
  Architecture a = biased_architecture();
  a.kv_heads = a.heads;
  const BlockWeights block = shared_model(a)->block(0);
  BlockInputsOf made(a, block, "values");
  MatrixD& h = made.inputs.stages.at(Stage::o).second_moment;
  for (std::size_t r = 0; r < h.rows(); ++r)
    for (std::size_t c = 0; c < h.cols(); ++c)
      if (r / a.head_dim != c / a.head_dim) h(r, c) = 0;
  const auto narrow = surveyed(*make_transform("narrow-heads", "keep: 60%, align: 4, damp: 1e-6", a), block, made);
  const BlockWeights cut = narrow->block(block, 0, &made.inputs);
  const Dense before = eigen(block[LinearSlot::o].weight->decode()), after = eigen(cut[LinearSlot::o].weight->decode());
  ASSERT_EQ(after.cols(), index(a.heads * 12));
  const Dense difference = before - after * encoder(a, block, cut, 12);
  double tail = 0, all = 0;
  for (std::size_t head = 0; head < a.heads; ++head) {
    const Dense g = eigen(h).block(index(head * 20), index(head * 20), 20, 20);
    const Dense o = before.middleCols(index(head * 20), 20);
    const Eigen::VectorXd squares = (half(o.transpose() * o) * half(g)).jacobiSvd().singularValues().array().square();
    tail += squares.tail(8).sum();
    all += squares.sum();
  }
  EXPECT_GT(tail, 0.01 * all);
  EXPECT_NEAR((difference * eigen(h) * difference.transpose()).trace(), tail, 1e-4 * tail);
}

TEST(NarrowHeads, SolveTheOutputForAllHeadsAtOnce) {
  const Architecture a = biased_architecture();  // two query heads in each group
  const BlockWeights block = shared_model(a)->block(0);
  const BlockInputsOf made(a, block, "groups");
  const auto narrow = surveyed(*make_transform("narrow-heads", "keep: 60%, align: 4, damp: 1e-6", a), block, made);
  const BlockWeights cut = narrow->block(block, 0, &made.inputs);
  const Dense h = eigen(with_damping(made.inputs[Stage::o].second_moment, 1e-6));
  const Dense e = encoder(a, block, cut, 12);
  const Dense before = eigen(block[LinearSlot::o].weight->decode()), after = eigen(cut[LinearSlot::o].weight->decode());
  const Dense gradient = (before - after * e) * h * e.transpose();
  EXPECT_LT(gradient.norm(), 1e-4 * (before * h * e.transpose()).norm());
  EXPECT_EQ(cut[LinearSlot::o].bias, block[LinearSlot::o].bias);
}

TEST(LeastLeverage, IsThatOfTheChannelsTheOthersSay) {
  MatrixD h(4, 4);
  for (std::size_t i = 0; i < 4; ++i) h(i, i) = 1;
  h(0, 2) = h(2, 0) = 0.99;  // nearly the same, so that either has half a leverage
  h(3, 3) = 0.3;
  const std::vector<std::size_t> least = least_leverage(h, 0.1, 2);
  // (H (H + r I)^-1)_ii, r = 0.1 * 3.3 / 4
  const Dense dense = eigen(h);
  const Dense leverage = dense * (dense + 0.0825 * Dense::Identity(4, 4)).inverse();
  std::vector<std::pair<double, std::size_t>> order;
  for (std::size_t i = 0; i < 4; ++i) order.emplace_back(leverage(index(i), index(i)), i);
  std::ranges::sort(order);
  EXPECT_EQ(least, (std::vector<std::size_t>{order[0].second, order[1].second}));
  EXPECT_EQ(least, (std::vector<std::size_t>{0, 2}));
}

}  // namespace
}  // namespace adze
