#include "compare/mismatch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/random.h"

namespace adze {
namespace {

MatrixD matrix(std::size_t rows, std::size_t cols, std::initializer_list<double> values) {
  MatrixD m(rows, cols);
  std::copy(values.begin(), values.end(), m.data());
  return m;
}

TEST(Spread, IsAMeanWithStudentsInterval) {
  const Spread s = spread_of(std::vector<double>{1, 2, 3, 6});
  EXPECT_DOUBLE_EQ(s.mean, 3);
  EXPECT_NEAR(s.sd, std::sqrt(14.0 / 3), 1e-12);
  EXPECT_NEAR(*s.margin, 3.1824 * s.sd / 2, 1e-9);
  EXPECT_EQ(s.best, 1);
  EXPECT_EQ(s.worst, 6);
  EXPECT_FALSE(spread_of(std::vector<double>{4}).margin);
  EXPECT_EQ(spread_of(std::vector<double>{0.1, 0.1, 0.1}).sd, 0) << "equal draws have exactly no spread";
}

TEST(Spread, KnowsStudentsQuantiles) {
  // Tables: t at 97.5 % for 11, 20, 60 and 1000 degrees of freedom.
  EXPECT_NEAR(student_quantile(1), 12.7062, 1e-4);
  EXPECT_NEAR(student_quantile(11), 2.2010, 1e-3);
  EXPECT_NEAR(student_quantile(20), 2.0860, 1e-3);
  EXPECT_NEAR(student_quantile(60), 2.0003, 1e-3);
  EXPECT_NEAR(student_quantile(1000), 1.9623, 1e-3);
}

TEST(Mismatch, NamesTheBest) {
  const Mismatch m{{"a", "b", "c"}, {"x", "y"}, {matrix(3, 2, {1, 9, 4, 4, 2, 5}), matrix(3, 2, {2, 8, 4, 5, 3, 4})}};
  EXPECT_EQ(m.best_for(0), 0u);
  EXPECT_EQ(m.best_for(1), 1u);  // 4.5 and 4.5 for b and c: the first
  EXPECT_EQ(m.best_on_average(), 2u);
  EXPECT_EQ(m.best_at_worst(), 1u);
  EXPECT_DOUBLE_EQ(m.mean()(0, 1), 8.5);
}

TEST(ProbabilityLess, CountsPairs) {
  EXPECT_DOUBLE_EQ(probability_less(std::vector<double>{1, 3}, std::vector<double>{2, 3}), (1 + 1 + 0 + 0.5) / 4);
  EXPECT_DOUBLE_EQ(probability_less(std::vector<double>{1, 1}, std::vector<double>{2, 2}), 1);
}

TEST(CompareDraws, DecidesOnlyWhatIsClear) {
  const std::vector<double> low{1, 1.1, 0.9, 1.05}, high{2, 2.1, 1.9, 2.2}, mixed{0.95, 1.2, 1.0, 1.02};
  EXPECT_EQ(compare_draws(low, high), Verdict::better);
  EXPECT_EQ(compare_draws(high, low), Verdict::worse);
  EXPECT_EQ(compare_draws(low, mixed), Verdict::unresolved);
}

TEST(OrderStability, IsOneForTheSameOrderAndNothingForNoise) {
  std::vector<std::vector<double>> same{{1, 2, 3, 4}, {10, 20, 30, 40}, {1, 3, 4, 9}};
  const OrderStability stable = order_stability(same);
  EXPECT_DOUBLE_EQ(stable.mean_tau, 1);
  EXPECT_DOUBLE_EQ(stable.concordance, 1);
  EXPECT_DOUBLE_EQ(stable.winner_share, 1);
  RandomStream random(5, "noise");
  std::vector<std::vector<double>> noise(40, std::vector<double>(6));
  for (auto& draw : noise)
    for (double& value : draw) value = random.uniform();
  const OrderStability unstable = order_stability(noise);
  EXPECT_NEAR(unstable.mean_tau, 0, 0.1);
  EXPECT_LT(unstable.concordance, 0.15);
  EXPECT_LT(unstable.winner_share, 0.5);
}

TEST(OrderStability, KnowsKendallsW) {
  // Ranks (1 2 3), (1 3 2), (2 1 3): sums 4, 6, 8; S = 8; W = 12 * 8 / (9 * 24) = 0.4444.
  const std::vector<std::vector<double>> draws{{1, 2, 3}, {1, 3, 2}, {2, 1, 3}};
  EXPECT_NEAR(order_stability(draws).concordance, 12.0 * 8 / (9 * 24), 1e-12);
  // Ties: (1 1 2), (1 2 3): ranks 1.5 1.5 3 and 1 2 3; sums 2.5 3.5 6; S = 6.5; T = 6; W = 78 / (4 * 24 - 2 * 6).
  const std::vector<std::vector<double>> tied{{1, 1, 2}, {1, 2, 3}};
  EXPECT_NEAR(order_stability(tied).concordance, 78.0 / 84, 1e-12);
}

TEST(VarianceShares, FindsBothParts) {
  RandomStream random(9, "two layers");
  std::vector<std::vector<double>> outcomes;
  for (int s = 0; s < 400; ++s) {
    const double source = 3 * random.normal();
    std::vector<double> draws;
    for (int r = 0; r < 4; ++r) draws.push_back(source + 0.5 * random.normal());
    outcomes.push_back(draws);
  }
  const VarianceShares shares = variance_shares(outcomes);
  EXPECT_NEAR(shares.between_sd, 3, 0.3);
  EXPECT_NEAR(shares.within_sd, 0.5, 0.03);
  const VarianceShares none = variance_shares(std::vector<std::vector<double>>{{1, 1}, {2, 2}});
  EXPECT_TRUE(std::isinf(none.ratio()));
}

}  // namespace
}  // namespace adze
