#include "evaluate/rank_correlation.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "model/memory_source.h"

namespace adze {
namespace {

using Floats = std::vector<float>;

TEST(KendallTau, HasTheKnownValues) {
  EXPECT_NEAR(kendall_tau_b(Floats{1, 2, 3, 4, 5}, Floats{2, 1, 3, 5, 4}), 0.6, 1e-12);
  EXPECT_NEAR(kendall_tau_b(Floats{1, 2, 2, 4}, Floats{1, 3, 2, 4}), 0.912871, 1e-6);
  EXPECT_EQ(kendall_tau_b(Floats{1, 2, 3}, Floats{3, 2, 1}), -1);
}

TEST(SpearmanRho, HasTheKnownValues) {
  EXPECT_NEAR(spearman_rho(Floats{1, 2, 3, 4, 5}, Floats{2, 1, 3, 5, 4}), 0.8, 1e-12);  // 1 - 6 sum d^2 / n (n^2 - 1)
  // Ranks 1, 2.5, 2.5, 4 and 1, 3, 2, 4: covariance 4.5, variances 4.5 and 5.
  EXPECT_NEAR(spearman_rho(Floats{1, 2, 2, 4}, Floats{1, 3, 2, 4}), 4.5 / std::sqrt(4.5 * 5), 1e-12);
}

TEST(RankCorrelation, IsOneOfEqualRankingsAndIgnoresTheirScale) {
  const Floats a = testing::random_values(20, "ranks");
  Floats b;
  for (const float value : a) b.push_back(std::exp(value));
  EXPECT_DOUBLE_EQ(kendall_tau_b(a, b), 1);
  EXPECT_DOUBLE_EQ(spearman_rho(a, b), 1);
}

TEST(RankCorrelation, OfTiesThroughoutIsOneIfBothAreTiedAndZeroIfOneIs) {
  const Floats tied{2, 2, 2}, other{1, 2, 3};
  for (const auto correlation : {kendall_tau_b, spearman_rho}) {
    EXPECT_EQ(correlation(tied, tied), 1);
    EXPECT_EQ(correlation(tied, other), 0);
    EXPECT_EQ(correlation(other, tied), 0);
  }
}

}  // namespace
}  // namespace adze
