#include "evaluate/compare.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/random.h"

namespace adze {
namespace {

/// 64 windows whose KL is `mean` and noise that all models share, and a little of each model's own.
EvaluationResult model(double mean, std::uint64_t seed, double own = 0.001) {
  RandomStream shared(1, "shared"), noise(seed, "own");
  EvaluationResult result;
  result.protocol = "lcpp-512";
  result.windows = 64;
  ReferenceResult& reference = result.reference.emplace();
  reference.perplexity_base = 30;
  for (std::size_t w = 0; w < result.windows; ++w) {
    const double window = 0.1 * std::exp(shared.normal());
    reference.window_kl.push_back(mean + window + own * noise.normal());
    result.window_nll.push_back(3 + mean + window + own * noise.normal());
  }
  return result;
}

TEST(Compare, FindsADifferenceFarBelowTheSpreadOfWindows) {
  const std::vector models{model(0.010, 1), model(0.012, 2)};
  const std::vector<ModelComparison> pairs = compare_models(models);
  ASSERT_EQ(pairs.size(), 1U);
  const PairedDifference& kl = pairs[0].kl.value();
  EXPECT_NEAR(kl.value, -0.002, 0.0006);
  EXPECT_LT(kl.interval_95->high, 0);
  EXPECT_GT(*kl.a_better, 0.999);
  EXPECT_LT(*kl.p_holm, 0.01);
  EXPECT_TRUE(pairs[0].loss.equivalent);  // within +-0.005 nats all the same
  EXPECT_FALSE(compare_models(models, 0.001)[0].loss.equivalent);
}

TEST(Compare, OfAModelWithItselfIsUndecided) {
  const std::vector models{model(0.01, 1), model(0.01, 1)};
  const PairedDifference difference = compare_models(models)[0].loss;
  EXPECT_EQ(difference.value, 0);
  EXPECT_EQ(*difference.a_better, 0.5);
  EXPECT_EQ(*difference.p, 1);
  EXPECT_TRUE(difference.equivalent);
  EXPECT_EQ(difference.windows_needed, 0);
}

TEST(Compare, OfTwoNoisyModelsIsNotEquivalent) {
  const std::vector models{model(0.01, 1, 0.1), model(0.01, 2, 0.1)};
  EXPECT_FALSE(compare_models(models)[0].loss.equivalent);
  EXPECT_GT(compare_models(models)[0].loss.windows_needed, 1000);
}

TEST(Compare, TakesEveryPairInOrder) {
  const std::vector models{model(0.01, 1), model(0.02, 2), model(0.03, 3)};
  const std::vector<ModelComparison> pairs = compare_models(models);
  ASSERT_EQ(pairs.size(), 3U);
  EXPECT_EQ(pairs[1].a, 0U);
  EXPECT_EQ(pairs[1].b, 2U);
  EXPECT_TRUE(compare_models(std::span(models).first(1)).empty());
}

void expect_refused(const EvaluationResult& a, const EvaluationResult& b, const std::string& words) {
  try {
    compare_models(std::vector{a, b});
    FAIL() << words;
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    EXPECT_THAT(error.message(), ::testing::HasSubstr(words));
  }
}

TEST(Compare, RefusesOtherProtocolsTextsAndReferences) {
  EvaluationResult other = model(0.01, 2);
  other.protocol = "gptq-512";
  expect_refused(model(0.01, 1), other, "lcpp-512 and gptq-512");
  other = model(0.01, 2);
  other.reference->perplexity_base = 31;
  expect_refused(model(0.01, 1), other, "the same text against the same reference");
  other = model(0.01, 2);
  other.reference.reset();
  expect_refused(model(0.01, 1), other, "the same text against the same reference");
}

TEST(Holm, MultipliesByWhatIsLeftAndNeverFalls) {
  // Sorted 0.01, 0.02, 0.03, 0.3 times 4, 3, 2, 1: 0.04, 0.06, 0.06, 0.3.
  EXPECT_THAT(holm_adjusted(std::vector{0.03, 0.01, 0.3, 0.02}),
              ::testing::Pointwise(::testing::DoubleNear(1e-12), {0.06, 0.04, 0.3, 0.06}));
  EXPECT_THAT(holm_adjusted(std::vector{0.6, 0.7}), ::testing::ElementsAre(1, 1));
  EXPECT_TRUE(holm_adjusted({}).empty());
}

TEST(WindowsNeeded, IsTheTextbookNumber) {
  EXPECT_EQ(windows_needed(0.005, 0.01), 32);  // (2.8 * 2)^2 = 31.36
  EXPECT_EQ(windows_needed(1, 0), 0);
}

TEST(Wilson, HasTheKnownInterval) {
  const Interval interval = wilson_interval(90, 100);
  EXPECT_NEAR(interval.low, 0.825634, 1e-6);
  EXPECT_NEAR(interval.high, 0.944771, 1e-6);
  EXPECT_EQ(wilson_interval(0, 10).low, 0);
  EXPECT_EQ(wilson_interval(10, 10).high, 1);
  EXPECT_GT(wilson_interval(0, 10).high, 0.2);
}

}  // namespace
}  // namespace adze
