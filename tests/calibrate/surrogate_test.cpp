// Moments without text against plain sums, and UDFC's closed form from them.
#include "calibrate/surrogate.h"

#include <Eigen/Dense>

#include "calibrate/calibrate_testing.h"
#include "linalg/linalg_testing.h"

namespace adze {
namespace {

using testing::eigen;
using testing::random_model;
using testing::small_architecture;
using testing::ThreadCount;
using Dense = Eigen::MatrixXd;

Architecture biased() {
  Architecture a = small_architecture();
  a.qkv_bias = a.mlp_bias = true;
  return a;
}

TensorPtr tensor(const MatrixF& values) { return std::make_shared<DenseTensor>(make_dense(values, DType::f32)); }

/// Value rows times gains with the bias beside them, at the columns of o that read them: [q_width x hidden + 1].
Dense repeated(const Architecture& a, const BlockWeights& block) {
  const MatrixF v = block[LinearSlot::v].weight->decode();
  Dense result(a.q_width(), a.hidden + 1);
  for (std::size_t r = 0; r < a.q_width(); ++r) {
    const std::size_t from = r / a.head_dim / (a.heads / a.kv_heads) * a.head_dim + r % a.head_dim;
    for (std::size_t c = 0; c < a.hidden; ++c)
      result(static_cast<Eigen::Index>(r), static_cast<Eigen::Index>(c)) =
          static_cast<double>(v(from, c)) * block[NormSlot::before_attention][c];
    result(static_cast<Eigen::Index>(r), static_cast<Eigen::Index>(a.hidden)) = block[LinearSlot::v].bias[from];
  }
  return result;
}

TEST(Surrogate, OfANormIsTheDiagonalOfItsSquaredGains) {
  const Architecture a = small_architecture();
  const BlockWeights block = random_model(a).block(0);
  for (const auto& [stage, gains] : {std::pair{Stage::qkv, block[NormSlot::before_attention]},
                                     std::pair{Stage::gate_up, block[NormSlot::before_ffn]}}) {
    const SurrogateMoments moments = surrogate_moments(a, stage, 0, block, block);
    for (std::size_t i = 0; i < a.hidden; ++i)
      for (std::size_t j = 0; j < a.hidden; ++j)
        EXPECT_FLOAT_EQ(static_cast<float>(moments.second_moment(i, j)), i == j ? gains[i] * gains[i] : 0.0f);
    EXPECT_EQ(moments.cross.rows(), 0U);
  }
}

/// For o, with a v that was rounded: H = W1hat Sigma W1hat^T and H + cross = W1 Sigma W1hat^T, head by head. Their
/// quotient is UDFC's W2' = W2 (W1 Sigma W1hat^T) (W1hat Sigma W1hat^T + a I)^-1; without rounding it is W2.
TEST(Surrogate, OfValuesGivesUdfcsClosedForm) {
  const Architecture a = biased();
  const BlockWeights original = random_model(a).block(1);
  BlockWeights seen = original;
  MatrixF rounded = original[LinearSlot::v].weight->decode();
  for (float& value : rounded.values()) value = std::round(value * 8) / 8;
  seen[LinearSlot::v].weight = tensor(rounded);
  const SurrogateMoments moments = surrogate_moments(a, Stage::o, 1, original, seen);
  const Dense now = repeated(a, seen), was = repeated(a, original);
  const Dense h = eigen(moments.second_moment), both = h + eigen(moments.cross);
  for (std::size_t i = 0; i < a.q_width(); ++i)
    for (std::size_t j = 0; j < a.q_width(); ++j) {
      const auto r = static_cast<Eigen::Index>(i), c = static_cast<Eigen::Index>(j);
      const bool same_head = i / a.head_dim == j / a.head_dim;
      EXPECT_NEAR(h(r, c), same_head ? now.row(r).dot(now.row(c)) : 0.0, 1e-5);
      EXPECT_NEAR(both(r, c), same_head ? was.row(r).dot(now.row(c)) : 0.0, 1e-5);
    }
  EXPECT_EQ(surrogate_moments(a, Stage::o, 1, original, original).cross.rows(), 0U);
}

/// A gate that is open by its bias alone: the hidden channels are linear, and drawn moments near the exact ones.
TEST(Surrogate, OfHiddenChannelsIsNearTheExactOneWhereThatIsKnown) {
  const Architecture a = biased();
  BlockWeights original = random_model(a).block(0);
  original[LinearSlot::gate].weight = tensor(MatrixF(a.ffn, a.hidden));
  std::ranges::fill(original[LinearSlot::gate].bias, 1.5f);
  std::ranges::fill(original[LinearSlot::up].bias, 0.0f);
  BlockWeights seen = original;
  MatrixF smaller = original[LinearSlot::up].weight->decode();
  for (float& value : smaller.values()) value *= 0.9f;
  seen[LinearSlot::up].weight = tensor(smaller);
  const SurrogateMoments moments = surrogate_moments(a, Stage::down, 0, original, seen);
  Dense up = eigen(smaller);
  for (std::size_t c = 0; c < a.hidden; ++c) up.col(static_cast<Eigen::Index>(c)) *= seen[NormSlot::before_ffn][c];
  const double open = 1.5 / (1 + std::exp(-1.5));
  const Dense exact = open * open * up * up.transpose();
  const Dense drawn = eigen(moments.second_moment) / moments.second_moment(0, 0) * exact(0, 0);
  EXPECT_LT((drawn - exact).norm(), 0.25 * exact.norm());  // 512 draws of 24 inputs
  // x_original = x / 0.9, so cross = (1 / 0.9 - 1) H.
  EXPECT_LT((eigen(moments.cross) - eigen(moments.second_moment) / 9).norm(), 1e-4 * eigen(moments.cross).norm());
}

TEST(Surrogate, IsTheSameWithAnyNumberOfThreads) {
  const Architecture a = biased();
  const BlockWeights block = random_model(a).block(0);
  std::vector<MatrixD> moments;
  for (const int threads : {1, 2, 5}) {
    const ThreadCount count(threads);
    moments.push_back(surrogate_moments(a, Stage::down, 3, block, block).second_moment);
  }
  EXPECT_EQ(moments[0], moments[1]);
  EXPECT_EQ(moments[0], moments[2]);
  EXPECT_NE(moments[0], surrogate_moments(a, Stage::down, 4, block, block).second_moment);
}

}  // namespace
}  // namespace adze
