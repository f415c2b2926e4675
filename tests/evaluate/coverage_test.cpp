// Do 95 % intervals hold the truth 95 times in a hundred? Windows are simulated: skewed, with tokens that go together,
// and of a mean that is known. Resamples are fewer than in production, which widens what is seen, not the intervals.
#include <cmath>
#include <cstdio>
#include <ostream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/parallel.h"
#include "base/random.h"
#include "evaluate/bootstrap.h"

namespace adze {
namespace {

constexpr std::size_t kTrials =
    4000;  // a share of 95 % is known to 0.34 % then; of a thousand to 0.7 %, too rough for the bounds
constexpr std::size_t kTokens = 32;  // of a window; more only make its mean less skewed
constexpr std::size_t kResamples = 500;

struct Text {
  std::size_t windows;
  double of_windows;  // spread of the logarithm of what all tokens of a window share
  double of_tokens;   // of each token's own
};

std::string name_of(const Text& text) {
  return std::to_string(text.windows) + "_windows_" + std::to_string(static_cast<int>(10 * text.of_windows)) + "_" +
         std::to_string(static_cast<int>(10 * text.of_tokens));
}
void PrintTo(const Text& text, std::ostream* out) { *out << name_of(text); }

/// Means of windows of lognormal tokens: exp(window) exp(token), both normal.
std::vector<double> window_means(const Text& text, RandomStream& random) {
  std::vector<double> means(text.windows);
  for (double& mean : means) {
    const double shared = std::exp(text.of_windows * random.normal());
    for (std::size_t t = 0; t < kTokens; ++t)
      mean += shared * std::exp(text.of_tokens * random.normal()) / static_cast<double>(kTokens);
  }
  return means;
}

double covered_share(const Text& text, const std::string& key) {
  const double truth = std::exp(0.5 * (text.of_windows * text.of_windows + text.of_tokens * text.of_tokens));
  std::vector<int> covered(kTrials);
  parallel_for(kTrials, [&](std::size_t trial) {
    RandomStream random(trial, key);
    const auto interval = bootstrap_mean(window_means(text, random), trial, kResamples);
    covered[trial] = interval->low <= truth && truth <= interval->high ? 1 : 0;
  });
  double sum = 0;
  for (const int one : covered) sum += one;
  return sum / static_cast<double>(kTrials);
}

class Coverage : public ::testing::TestWithParam<Text> {};

TEST_P(Coverage, OfBootstrapIntervalsIs95Percent) {
  const Text& text = GetParam();
  const double share = covered_share(text, "coverage of " + name_of(text));
  std::printf("%s: %.2f %%\n", name_of(text).c_str(), 100 * share);
  EXPECT_GE(share, 0.93);
  EXPECT_LE(share, 0.97);
}

INSTANTIATE_TEST_SUITE_P(Texts, Coverage,
                         ::testing::Values(Text{64, 0.3, 1.0}, Text{64, 0.5, 1.0}, Text{64, 0.5, 1.5},
                                           Text{142, 0.3, 1.0}, Text{142, 0.5, 1.0}, Text{142, 0.5, 1.5}),
                         [](const auto& test) { return name_of(test.param); });

TEST(Coverage, FindsIntervalsThatAreTooNarrow) {
  // The check can fail: the same windows with intervals for a mean that lies a standard error elsewhere.
  std::size_t covered = 0;
  const Text text{64, 0.3, 1.0};
  const double truth = std::exp(0.5 * (0.09 + 1.0)), error = 0.4 * truth / 8;
  for (std::size_t trial = 0; trial < 200; ++trial) {
    RandomStream random(trial, "coverage");
    const auto interval = bootstrap_mean(window_means(text, random), trial, 200);
    covered += interval->low <= truth + error && truth + error <= interval->high ? 1 : 0;
  }
  EXPECT_LT(covered, 186U);
}

}  // namespace
}  // namespace adze
