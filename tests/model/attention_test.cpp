#include <cmath>

#include <gtest/gtest.h>

#include "model/attention.h"
#include "model/memory_source.h"

namespace adze {
namespace {

using testing::random_matrix;

MatrixF naive_attention(const MatrixF& q, const MatrixF& k, const MatrixF& v, const AttentionShape& shape) {
  MatrixF out(q.shape());
  const std::size_t dim = shape.head_dim;
  for (std::size_t head = 0; head < shape.heads; ++head) {
    const std::size_t key_head = head / (shape.heads / shape.kv_heads);
    for (std::size_t t = 0; t < q.rows(); ++t) {
      std::vector<double> weights(t + 1);
      double sum = 0;
      for (std::size_t s = 0; s <= t; ++s) {
        if (shape.sliding_window != 0 && t - s >= shape.sliding_window) continue;
        double score = 0;
        for (std::size_t c = 0; c < dim; ++c)
          score += static_cast<double>(q(t, head * dim + c)) * k(s, key_head * dim + c);
        sum += weights[s] = std::exp(score / std::sqrt(static_cast<double>(dim)));
      }
      for (std::size_t c = 0; c < dim; ++c) {
        double mixed = 0;
        for (std::size_t s = 0; s <= t; ++s) mixed += weights[s] / sum * v(s, key_head * dim + c);
        out(t, head * dim + c) = static_cast<float>(mixed);
      }
    }
  }
  return out;
}

void expect_naive(std::size_t tokens, const AttentionShape& shape) {
  const MatrixF q = random_matrix({tokens, shape.heads * shape.head_dim}, "q");
  const MatrixF k = random_matrix({tokens, shape.kv_heads * shape.head_dim}, "k");
  const MatrixF v = random_matrix({tokens, shape.kv_heads * shape.head_dim}, "v");
  MatrixF out(q.shape());
  std::vector<float> scores(5, 1e30f);  // stale contents must not matter
  attention(q, k, v, shape, out, scores);
  const MatrixF expected = naive_attention(q, k, v, shape);
  for (std::size_t i = 0; i < out.values().size(); ++i)
    ASSERT_NEAR(out.values()[i], expected.values()[i], 2e-6) << tokens << " tokens, element " << i;
}

TEST(Attention, IsTheNaiveLoop) {
  for (const std::size_t tokens : {1, 2, 127, 128, 129, 300}) expect_naive(tokens, {2, 2, 8, 0});
}

TEST(Attention, SharesKeysAmongGroupedQueries) {
  expect_naive(50, {6, 2, 4, 0});
  expect_naive(50, {4, 1, 6, 0});
}

TEST(Attention, SeesOnlyItsSlidingWindow) {
  for (const std::size_t window : {1, 3, 128, 200, 299, 300, 1000}) expect_naive(300, {2, 1, 4, window});
}

TEST(Attention, AWindowOfOneTokenGivesBackTheValues) {
  const MatrixF q = random_matrix({140, 8}, "q");
  const MatrixF v = random_matrix({140, 8}, "v");
  MatrixF out(q.shape());
  std::vector<float> scores;
  attention(q, q, v, {2, 2, 4, 1}, out, scores);
  EXPECT_TRUE(out == v);
}

TEST(Attention, SurvivesScoresFarBeyondExp) {
  MatrixF q(3, 4), v = random_matrix({3, 4}, "v");
  for (float& value : q.values()) value = 1e6f;
  MatrixF out(q.shape());
  std::vector<float> scores;
  attention(q, q, v, {1, 1, 4, 0}, out, scores);
  for (std::size_t c = 0; c < 4; ++c) EXPECT_NEAR(out(2, c), (v(0, c) + v(1, c) + v(2, c)) / 3, 1e-6);
}

}  // namespace
}  // namespace adze
