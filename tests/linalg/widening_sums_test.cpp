#include "linalg/widening_sums.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "linalg/linalg_testing.h"

namespace adze {
namespace {

using testing::random_matrix;
using testing::Strided;

constexpr std::size_t kSizes[] = {0, 1, 3, 4, 7, 8, 31, 64, 257};

TEST(WideningSums, AreThoseOfAPlainLoopToTheBit) {
  for (const std::size_t n : kSizes) {
    const MatrixF values = random_matrix<float>({1, n}, "values");
    std::vector<double> sums(n, 1.0 / 3), expected = sums;
    for (std::size_t i = 0; i < n; ++i) expected[i] += static_cast<double>(values.values()[i]);
    add_widened(values.values(), sums);
    EXPECT_EQ(sums, expected) << n;
  }
}

TEST(ColumnSums, AreThoseOfAPlainLoopToTheBit) {
  for (const std::size_t n : kSizes) {
    Strided x(random_matrix<float>({50, n}, "x"), 3);
    std::vector<double> sum(n, 0.1), abs_sum(n, 0.2), expected_sum = sum, expected_abs = abs_sum;
    std::vector<float> abs_max(n, 0.5f), expected_max = abs_max;
    for (std::size_t t = 0; t < 50; ++t)
      for (std::size_t c = 0; c < n; ++c) {
        const float magnitude = std::fabs(x.view()(t, c));
        expected_sum[c] += static_cast<double>(x.view()(t, c));
        expected_abs[c] += static_cast<double>(magnitude);
        expected_max[c] = std::max(expected_max[c], magnitude);
      }
    EXPECT_TRUE(add_columns(x.view(), {sum, abs_sum, abs_max}));
    EXPECT_EQ(sum, expected_sum) << n;
    EXPECT_EQ(abs_sum, expected_abs) << n;
    EXPECT_EQ(abs_max, expected_max) << n;
  }
}

TEST(ColumnSums, SayWhereverAValueIsNotFinite) {
  constexpr std::size_t kColumns = 21;  // whole vectors and a rest
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const float bad : {kInfinity, -kInfinity, std::numeric_limits<float>::quiet_NaN()})
    for (std::size_t at = 0; at < 3 * kColumns; ++at) {
      MatrixF x = random_matrix<float>({3, kColumns}, "x");
      x.values()[at] = bad;
      std::vector<double> sum(kColumns), abs_sum(kColumns);
      std::vector<float> abs_max(kColumns);
      EXPECT_FALSE(add_columns(x, {sum, abs_sum, abs_max})) << bad << " at " << at;
    }
  MatrixF largest(1000, 1);
  for (float& value : largest.values()) value = std::numeric_limits<float>::max();
  std::vector<double> sum(1), abs_sum(1);
  std::vector<float> abs_max(1);
  EXPECT_TRUE(add_columns(largest, {sum, abs_sum, abs_max})) << "large is not infinite";
}

}  // namespace
}  // namespace adze
