// How keys and values are read, against plain sums over tokens and distances.
#include "calibrate/readers.h"

#include <cmath>

#include <Eigen/Dense>

#include "calibrate/calibrate_testing.h"
#include "linalg/linalg_testing.h"
#include "model/rope.h"

namespace adze {
namespace {

using testing::eigen;
using testing::random_matrix;
using testing::random_model;
using testing::small_architecture;
using Dense = Eigen::MatrixXd;

Eigen::Index index(std::size_t i) { return static_cast<Eigen::Index>(i); }

/// Rotation of a head by `position`, half-split; elements that RoPE leaves are left.
Dense rotation(const Architecture& a, double position) {
  const std::vector<double> frequencies = rope_frequencies(a.rope, a.rotated());
  const Eigen::Index half = index(a.rotated() / 2);
  Dense r = Dense::Identity(index(a.head_dim), index(a.head_dim));
  for (Eigen::Index p = 0; p < half; ++p) {
    const double angle = position * frequencies[static_cast<std::size_t>(p)];
    r(p, p) = r(p + half, p + half) = std::cos(angle);
    r(p, p + half) = -std::sin(angle);
    r(p + half, p) = std::sin(angle);
  }
  return r;
}

/// How many of the 8 elements of a head are rotated.
class ReadersOfKeys : public ::testing::TestWithParam<std::size_t> {};

TEST_P(ReadersOfKeys, AreTheQueriesAtAllDistancesOfAWindow) {
  Architecture a = small_architecture();  // 4 query heads, 2 key/value heads of 8
  a.rotary_dim = GetParam();
  a.qkv_bias = true;
  a.rope.theta = 50;
  const BlockWeights block = random_model(a).block(0);
  const std::size_t tokens = 40, window = 7;
  MatrixF x = random_matrix({tokens, a.hidden}, "x");
  for (float& value : x.values()) value += 0.3f;  // a mean, which biases meet
  InputStatistics inputs(a.hidden);
  inputs.add(x, tokens);
  Dense q = eigen(x) * eigen(block[LinearSlot::q].weight->decode()).transpose();
  for (Eigen::Index r = 0; r < q.rows(); ++r)
    for (std::size_t c = 0; c < a.q_width(); ++c) q(r, index(c)) += block[LinearSlot::q].bias[c];
  Dense expected = Dense::Zero(index(a.kv_width()), index(a.kv_width()));
  for (std::size_t group = 0; group < a.kv_heads; ++group) {
    Dense sum = Dense::Zero(8, 8);
    for (std::size_t head = 2 * group; head < 2 * group + 2; ++head)
      for (std::size_t s = 0; s < window; ++s)
        for (std::size_t t = 0; t <= s; ++t) {
          // (R_s q)^T (R_t e), squared and summed over the queries
          const Dense seen = q.middleCols(index(8 * head), 8) * rotation(a, static_cast<double>(s)).transpose() *
                             rotation(a, static_cast<double>(t));
          sum += seen.transpose() * seen / (window * (window + 1) / 2.0);
        }
    expected.block(index(8 * group), index(8 * group), 8, 8) = sum;
  }
  const Dense found = eigen(reading_moment(a, LinearSlot::k, block, inputs, window));
  EXPECT_LT((found - expected).norm(), 1e-5 * expected.norm());
}

INSTANTIATE_TEST_SUITE_P(Rotated, ReadersOfKeys, ::testing::Values(0U, 2U, 4U, 6U));

TEST(Readers, OfValuesAreTheColumnsOfTheOutput) {
  const Architecture a = small_architecture();
  const BlockWeights block = random_model(a).block(1);
  const Dense o = eigen(block[LinearSlot::o].weight->decode());
  const MatrixD found = reading_moment(a, LinearSlot::v, block, InputStatistics(a.hidden), 16);
  for (std::size_t r = 0; r < a.kv_width(); ++r)
    for (std::size_t c = 0; c < a.kv_width(); ++c) {
      const std::size_t group = r / 8;
      double sum = 0;
      for (std::size_t head = 2 * group; group == c / 8 && head < 2 * group + 2; ++head)
        sum += o.col(index(8 * head + r % 8)).dot(o.col(index(8 * head + c % 8)));
      EXPECT_NEAR(found(r, c), sum, 1e-6);
    }
  for (const LinearSlot slot : {LinearSlot::q, LinearSlot::o, LinearSlot::down})
    EXPECT_TRUE(reading_moment(a, slot, block, InputStatistics(a.hidden), 16).empty());
}

}  // namespace
}  // namespace adze
