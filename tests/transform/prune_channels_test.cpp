// Structured pruning against brute force: which groups go, what the rest becomes, and the shapes that are left.
#include "transform/prune_channels.h"

#include <cmath>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <Eigen/Dense>

#include "linalg/linalg_testing.h"
#include "metrics/proxy_loss.h"
#include "transform/block_inputs.h"
#include "transform/dense_rotation.h"
#include "transform/least_groups.h"
#include "transform/rotation_testing.h"

namespace adze {
namespace {

using testing::biased_architecture;
using testing::BlockInputsOf;
using testing::eigen;
using ::testing::HasSubstr;
using testing::largest_difference;
using testing::make_transform;
using testing::random_matrix;
using testing::shared_model;
using testing::small_architecture;

using Dense = Eigen::MatrixXd;

MatrixD hessian(std::size_t n, const std::string& key) {
  const MatrixF x = random_matrix({3 * n, n}, key);
  MatrixD h(n, n);
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < n; ++j)
      for (std::size_t t = 0; t < x.rows(); ++t) {
        const auto at = [&](std::size_t c) { return x(t, c) + 0.8 * x(t, (c + 1) % n); };
        h(i, j) += at(i) * at(j);
      }
  return h;
}

std::vector<std::size_t> without(std::size_t cols, std::size_t group, const std::vector<std::size_t>& dropped) {
  std::vector<std::size_t> kept;
  for (std::size_t c = 0; c < cols; ++c)
    if (std::ranges::find(dropped, c / group) == dropped.end()) kept.push_back(c);
  return kept;
}

/// The least loss without these columns, by least squares on a square root of H.
double least_loss(const MatrixF& weights, const MatrixD& h, const std::vector<std::size_t>& kept) {
  const Dense root = eigen(h).llt().matrixU();  // H = root^T root: columns are inputs
  Dense left(root.rows(), static_cast<Eigen::Index>(kept.size()));
  for (std::size_t k = 0; k < kept.size(); ++k)
    left.col(static_cast<Eigen::Index>(k)) = root.col(static_cast<Eigen::Index>(kept[k]));
  const Dense wanted = root * eigen(weights).transpose();
  const Dense fit = left.colPivHouseholderQr().solve(wanted);
  return (wanted - left * fit).squaredNorm();
}

MatrixF spread(const MatrixF& narrow, const std::vector<std::size_t>& kept, std::size_t cols) {
  MatrixF wide(narrow.rows(), cols);
  for (std::size_t r = 0; r < narrow.rows(); ++r)
    for (std::size_t k = 0; k < kept.size(); ++k) wide(r, kept[k]) = narrow(r, k);
  return wide;
}

TEST(LeastGroups, AreThoseOfGreedyBruteForce) {
  for (const std::size_t group : {1, 2, 3}) {
    const std::size_t n = 12;
    const MatrixF weights = random_matrix({5, n}, "w");
    const MatrixD h = hessian(n, "h");
    std::vector<std::size_t> expected;
    while (expected.size() < n / group / 2) {
      std::size_t best = 0;
      double least = std::numeric_limits<double>::infinity();
      for (std::size_t g = 0; g < n / group; ++g) {
        if (std::ranges::find(expected, g) != expected.end()) continue;
        auto tried = expected;
        tried.push_back(g);
        const double loss = least_loss(weights, h, without(n, group, tried));
        if (loss < least) {
          least = loss;
          best = g;
        }
      }
      expected.push_back(best);
    }
    EXPECT_EQ(least_groups(weights, h, group, std::array{expected.size()}), expected) << group;
  }
}

TEST(LeastGroups, KeepToTheirQuotas) {
  const MatrixF weights = random_matrix({4, 12}, "w");
  const auto dropped = least_groups(weights, hessian(12, "h"), 2, std::array<std::size_t, 3>{1, 0, 1});
  EXPECT_THAT(dropped, ::testing::UnorderedElementsAre(::testing::AnyOf(0, 1), ::testing::AnyOf(4, 5)));
}

TEST(LeastGroups, DropWhatOthersSayAlready) {
  const std::size_t n = 8;
  MatrixD h = hessian(n, "h");
  for (std::size_t j = 0; j < n; ++j) h(5, j) = h(j, 5) = j == 5 ? h(2, 2) : h(2, j);  // input 5 is input 2
  const MatrixF weights = random_matrix({6, n}, "w");
  const MatrixD damped = with_damping(h, 1e-9);
  const auto dropped = least_groups(weights, damped, 1, std::array<std::size_t, 1>{1});
  EXPECT_THAT(dropped.front(), ::testing::AnyOf(2, 5));
  const auto kept = without(n, 1, dropped);
  const double energy = output_energy(weights, h);
  EXPECT_LT(proxy_loss(weights, spread(repaired(weights, damped, kept), kept, n), h), 1e-6 * energy);
}

TEST(Repaired, IsTheLeastSquaresSolutionAndNeverWorseThanZeros) {
  const std::size_t n = 10;
  const MatrixF weights = random_matrix({7, n}, "w");
  const MatrixD h = hessian(n, "h");
  for (const std::vector<std::size_t>& kept :
       {std::vector<std::size_t>{0, 1, 2, 5, 7, 9}, std::vector<std::size_t>{3}, without(n, 1, {})}) {
    const MatrixF narrow = repaired(weights, h, kept);
    const double loss = proxy_loss(weights, spread(narrow, kept, n), h);
    EXPECT_NEAR(loss, least_loss(weights, h, kept), 1e-6 * output_energy(weights, h));
    MatrixF zeroed(weights.rows(), n);
    for (std::size_t r = 0; r < weights.rows(); ++r)
      for (const std::size_t c : kept) zeroed(r, c) = weights(r, c);
    EXPECT_LE(loss, proxy_loss(weights, zeroed, h) + 1e-9);
    if (kept.size() == n) {
      EXPECT_LT(largest_difference(narrow, weights), 1e-5);
    }
  }
}

Shape shape_in(const BlockWeights& block, LinearSlot slot) { return block[slot].weight->shape(); }

TEST(PruneFfn, NarrowsTheThreeMatricesAndTheArchitecture) {
  const Architecture a = biased_architecture();  // FFN 40
  const auto model = shared_model(a);
  const BlockInputsOf made(a, model->block(1), "ffn");
  for (const char* const inputs : {"calibration", "none"}) {
    const auto prune = make_transform("prune-ffn", fmt::format("keep: 60%, align: 8, inputs: {}", inputs), a);
    EXPECT_EQ(prune->architecture(a).ffn, 24U);
    const BlockWeights block = prune->block(model->block(1), 1, &made.inputs);
    EXPECT_EQ(shape_in(block, LinearSlot::gate), (Shape{24, a.hidden}));
    EXPECT_EQ(shape_in(block, LinearSlot::up), (Shape{24, a.hidden}));
    EXPECT_EQ(shape_in(block, LinearSlot::down), (Shape{a.hidden, 24}));
    EXPECT_EQ(block[LinearSlot::up].bias.size(), 24U);
    EXPECT_EQ(block[LinearSlot::down].bias, model->block(1)[LinearSlot::down].bias);
    // Rows that are kept are those of the original, in order.
    const MatrixF before = model->block(1)[LinearSlot::gate].weight->decode();
    const MatrixF after = block[LinearSlot::gate].weight->decode();
    std::size_t found = 0;
    for (std::size_t r = 0; r < before.rows() && found < after.rows(); ++r)
      if (std::ranges::equal(before.row(r), after.row(found))) ++found;
    EXPECT_EQ(found, after.rows());
  }
}

TEST(PruneFfn, DropsTheChannelsThatAreLeastActive) {
  const Architecture a = biased_architecture();
  const auto model = shared_model(a);
  BlockInputsOf made(a, model->block(0), "active");
  for (std::size_t c = 0; c < 40; ++c) made.spread_column(Stage::down, c, c % 5 == 0 ? 0.01f : 1.0f);
  const BlockWeights block =
      make_transform("prune-ffn", "keep: 80%, align: 8, select: activity", a)->block(model->block(0), 0, &made.inputs);
  const MatrixF before = model->block(0)[LinearSlot::up].weight->decode();
  const MatrixF after = block[LinearSlot::up].weight->decode();
  ASSERT_EQ(after.rows(), 32U);
  for (std::size_t c = 0, left = 0; c < 40; ++c)
    if (c % 5 != 0) {
      EXPECT_TRUE(std::ranges::equal(before.row(c), after.row(left++))) << c;
    }
  EXPECT_THAT(testing::refused("prune-ffn", "keep: 80%, align: 8, select: activity, inputs: none", a),
              ::testing::HasSubstr("there is none"));
}

TEST(PruneHeads, RemovesHeadsWithTheirRowsAndColumns) {
  const Architecture a = small_architecture();  // 4 query heads of 8, 2 key/value heads
  const auto model = shared_model(a);
  const BlockInputsOf made(a, model->block(0), "heads");
  for (const char* const inputs : {"calibration", "none"}) {
    const auto groups = make_transform("prune-heads", fmt::format("keep: 50%, inputs: {}", inputs), a);
    EXPECT_EQ(groups->architecture(a).heads, 2U);
    EXPECT_EQ(groups->architecture(a).kv_heads, 1U);
    const BlockWeights one = groups->block(model->block(0), 0, &made.inputs);
    EXPECT_EQ(shape_in(one, LinearSlot::q), (Shape{16, a.hidden}));
    EXPECT_EQ(shape_in(one, LinearSlot::k), (Shape{8, a.hidden}));
    EXPECT_EQ(shape_in(one, LinearSlot::v), (Shape{8, a.hidden}));
    EXPECT_EQ(shape_in(one, LinearSlot::o), (Shape{a.hidden, 16}));
    const auto queries = make_transform("prune-heads", fmt::format("keep: 50%, what: queries, inputs: {}", inputs), a);
    EXPECT_EQ(queries->architecture(a).heads, 2U);
    EXPECT_EQ(queries->architecture(a).kv_heads, 2U);
    const BlockWeights both = queries->block(model->block(0), 0, &made.inputs);
    EXPECT_EQ(shape_in(both, LinearSlot::q), (Shape{16, a.hidden}));
    EXPECT_EQ(shape_in(both, LinearSlot::v), (Shape{16, a.hidden}));
    EXPECT_EQ(shape_in(both, LinearSlot::o), (Shape{a.hidden, 16}));
  }
}

/// Heads of a model in which two of them do nothing are those that go, and the function stays.
TEST(PruneHeads, DropHeadsThatDoNothingFirst) {
  const Architecture a = small_architecture();
  BlockWeights block = shared_model(a)->block(0);
  MatrixF o = block[LinearSlot::o].weight->decode();
  for (std::size_t r = 0; r < o.rows(); ++r) std::ranges::fill(o.row(r).first(16), 0.0f);  // the first group's
  block[LinearSlot::o].weight = std::make_shared<DenseTensor>(make_dense(o, DType::f32));
  const BlockInputsOf made(a, block, "heads");
  const BlockWeights after = make_transform("prune-heads", "keep: 50%", a)->block(block, 0, &made.inputs);
  MatrixF rest(o.rows(), 16);
  for (std::size_t r = 0; r < o.rows(); ++r) std::ranges::copy(o.row(r).last(16), rest.row(r).begin());
  EXPECT_LT(largest_difference(after[LinearSlot::o].weight->decode(), rest), 1e-5);
}

TEST(Prune, WhatMakesNoSenseIsRefused) {
  const Architecture a = small_architecture();
  EXPECT_THAT(testing::refused("prune-ffn", "", a), HasSubstr("'keep'"));
  EXPECT_THAT(testing::refused("prune-ffn", "keep: 0%", a), HasSubstr("above 0%"));
  EXPECT_THAT(testing::refused("prune-ffn", "keep: 120%", a), HasSubstr("keep"));
  EXPECT_THAT(testing::refused("prune-ffn", "keep: 0.8", a), HasSubstr("keep"));
  EXPECT_THAT(testing::refused("prune-ffn", "keep: 99%, align: 8", a), HasSubstr("nothing would be pruned"));
  EXPECT_THAT(testing::refused("prune-heads", "keep: 90%", a), HasSubstr("nothing would be pruned"));
  EXPECT_THAT(testing::refused("prune-heads", "keep: 50%, what: all", a), HasSubstr("what"));
}

}  // namespace
}  // namespace adze
