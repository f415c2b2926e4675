#include "evaluate/effective_rank.h"

#include <cmath>

#include <gtest/gtest.h>

#include "model/memory_source.h"

namespace adze {
namespace {

TEST(EntropyRank, HasTheKnownValue) {
  EXPECT_NEAR(entropy_rank(std::vector<double>{3, 1, 1, 0}), 2.586409, 1e-6);
  EXPECT_NEAR(entropy_rank(std::vector<double>(7, 0.3)), 7, 1e-12);
  EXPECT_EQ(entropy_rank(std::vector<double>{0, 0}), 0);
  EXPECT_EQ(entropy_rank({}), 0);
}

TEST(EffectiveRank, IsTheNumberOfEqualDirections) {
  // Rows +-e_i: the mean is 0, the covariance a multiple of the identity in four of six directions.
  MatrixF states(8, 6);
  for (std::size_t i = 0; i < 4; ++i) {
    states(2 * i, i) = 3.0F;
    states(2 * i + 1, i) = -5.0F * 3.0F / 5.0F;
  }
  EXPECT_NEAR(effective_rank(states), 4, 1e-9);
}

TEST(EffectiveRank, IsTheSameThroughEitherGramMatrix) {
  // More columns than rows, then the same states with columns of zeros removed.
  const MatrixF narrow = testing::random_matrix({12, 9}, "states");
  MatrixF wide(12, 40);
  for (std::size_t t = 0; t < 12; ++t) std::ranges::copy(narrow.row(t), wide.row(t).begin());
  EXPECT_NEAR(effective_rank(narrow), effective_rank(wide), 1e-9);
}

TEST(EffectiveRank, IgnoresShiftAndScaleAndIsZeroOfEqualRows) {
  const MatrixF states = testing::random_matrix({20, 8}, "states");
  MatrixF other = states;
  for (float& value : other.values()) value = 2 * value;
  EXPECT_NEAR(effective_rank(other), effective_rank(states), 1e-9);
  MatrixF same(5, 3);
  for (float& value : same.values()) value = 1.5F;
  EXPECT_EQ(effective_rank(same), 0);
}

}  // namespace
}  // namespace adze
