#include "metrics/rank_correlation.h"

#include <gtest/gtest.h>

#include <vector>

namespace adze {
namespace {

TEST(KendallTau, CountsPairsThatAgree) {
  const std::vector<double> a{1, 2, 3, 4, 5};
  EXPECT_DOUBLE_EQ(kendall_tau(a, std::vector<double>{10, 20, 30, 40, 50}), 1);
  EXPECT_DOUBLE_EQ(kendall_tau(a, std::vector<double>{5, 4, 3, 2, 1}), -1);
  EXPECT_DOUBLE_EQ(kendall_tau(a, std::vector<double>{1, 2, 3, 5, 4}), 0.8);  // one of ten pairs the other way
  EXPECT_DOUBLE_EQ(kendall_tau(a, std::vector<double>{1, 1, 1, 1, 1}), 0);
  EXPECT_NEAR(kendall_tau(std::vector<double>{1, 1, 2, 3}, std::vector<double>{1, 2, 3, 3}), 4.0 / 5, 1e-15);
}

}  // namespace
}  // namespace adze
