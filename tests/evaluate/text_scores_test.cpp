// What is kept of a text: how much, and that statistics of windows are those of all tokens.
#include "evaluate/text_scores.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/parallel.h"
#include "evaluate/evaluate.h"
#include "evaluate/evaluate_testing.h"
#include "model/memory_source.h"

namespace adze {
namespace {

using testing::random_ids;
using testing::random_model;
using testing::small_architecture;
using testing::text_scores;

/// Scores of random logits: [windows x tokens of a window that are scored].
Matrix<TokenScore> random_scores(std::size_t windows, const Protocol& protocol, std::size_t vocab = 60) {
  Matrix<TokenScore> scores(windows, protocol.scored_per_window());
  ScoreScratch scratch;
  for (std::size_t i = 0; i < scores.shape().count(); ++i) {
    const auto p = testing::random_values(vocab, "p" + std::to_string(i), 2.0);
    auto q = p;
    const auto noise = testing::random_values(vocab, "q" + std::to_string(i), 0.3 * static_cast<double>(1 + i % 3));
    for (std::size_t v = 0; v < vocab; ++v) q[v] += noise[v];
    scores.values()[i] = score_token(q, p, static_cast<std::int32_t>(i % vocab), scratch);
  }
  return scores;
}

TEST(TextScores, KeepSixteenBytesATokenAndTheRestPerWindow) {
  EXPECT_LE(sizeof(TokenTrace), kMostBytesPerToken);
  const auto model = random_model(small_architecture()), other = random_model(small_architecture(), DType::bf16);
  std::size_t bytes_of_windows = 0;
  for (const char* const name : {"gptq-16", "gptq-64"}) {  // as many tokens a window, four times the tokens
    const Protocol protocol = parse_protocol(name);
    const TextScores text = score_text(other, &model, random_ids(4 * protocol.window, 50), std::nullopt, protocol,
                                       silent_progress(), {.scores = {.worst_tokens = 5, .detail = true}});
    EXPECT_EQ(text.tokens.shape(), (Shape{4, protocol.scored_per_window()}));
    EXPECT_EQ(text.windows.size(), 4U);
    EXPECT_EQ(text.worst_tokens.size(), 5U);
    EXPECT_EQ(text.ranks.size(), 4U);
    const std::size_t rest = text.windows.size() * sizeof(WindowScores) + text.ranks.size() * sizeof(WindowRank);
    if (bytes_of_windows == 0) bytes_of_windows = rest;
    EXPECT_EQ(rest, bytes_of_windows);
  }
  EXPECT_TRUE(
      score_text(model, nullptr, random_ids(64, 50), 1, parse_protocol("gptq-32"), silent_progress()).tokens.empty());
}

TEST(TextScores, GiveTheMeansAndErrorsOfAllTokens) {
  const Protocol protocol = parse_protocol("lcpp-32");
  const Matrix<TokenScore> scores = random_scores(7, protocol);
  const EvaluationResult result = summarize(text_scores(scores, protocol, true));
  const auto n = static_cast<double>(scores.shape().count());
  for (const StatisticInfo& info : statistics()) {
    double mean = 0, square = 0;
    for (const TokenScore& score : scores.values()) mean += info.of(score) / n;
    for (const TokenScore& score : scores.values()) square += std::pow(info.of(score) - mean, 2);
    const Estimate& estimate = result.means[info.statistic];
    EXPECT_NEAR(estimate.value, mean, 1e-12) << info.name;
    EXPECT_NEAR(estimate.se, std::sqrt(square / n / (n - 1)), 1e-12) << info.name;
    ASSERT_TRUE(estimate.interval_95.has_value()) << info.name;
    EXPECT_LE(estimate.interval_95->low, mean + 1e-12) << info.name;
    EXPECT_GE(estimate.interval_95->high, mean - 1e-12) << info.name;
  }
}

TEST(TextScores, GiveCorrelationTailsPercentilesAndCalibrationOfAllTokens) {
  const Protocol protocol = parse_protocol("lcpp-32");
  Matrix<TokenScore> scores = random_scores(7, protocol);
  scores(3, 2).kl = 3.5;
  scores(5, 1).kl = 12;
  const EvaluationResult result = summarize(text_scores(scores, protocol, true));
  const ReferenceResult& r = *result.reference;
  std::vector<double> dp, overlap;
  double a = 0, b = 0, ab = 0, aa = 0, bb = 0;
  const auto n = static_cast<double>(scores.shape().count());
  for (const TokenScore& s : scores.values()) {
    dp.push_back(s.dp);
    overlap.push_back(s.overlap);
    a += s.nll / n;
    b += s.nll_base / n;
  }
  for (const TokenScore& s : scores.values()) {
    ab += (s.nll - a) * (s.nll_base - b);
    aa += (s.nll - a) * (s.nll - a);
    bb += (s.nll_base - b) * (s.nll_base - b);
  }
  EXPECT_NEAR(r.nll_correlation, ab / std::sqrt(aa * bb), 1e-12);
  std::ranges::sort(dp);
  std::ranges::sort(overlap);
  ASSERT_EQ(r.dp_percentiles.size(), 13U);
  for (const PercentileValue& value : r.dp_percentiles)
    EXPECT_NEAR(value.value, percentile(dp, value.fraction), 1e-7) << value.fraction;
  EXPECT_NEAR(r.overlap_1, percentile(overlap, 0.01), 0.05 * overlap.back());
  ASSERT_EQ(r.kl_above.size(), 3U);
  EXPECT_EQ(r.kl_above[1].tokens, 2U);
  EXPECT_EQ(r.kl_above[2].tokens, 1U);
  EXPECT_GT(r.kl_above[2].share_95.high, 1 / n);
  double gap = 0;
  for (int bin = 0; bin < 15; ++bin) {
    double right = 0, confidence = 0;
    for (const TokenScore& s : scores.values())
      if (const double p = std::exp(-s.top_surprise); std::min(14, static_cast<int>(p * 15)) == bin) {
        right += s.top_right ? 1 : 0;
        confidence += p;
      }
    gap += std::abs(right - confidence) / n;
  }
  EXPECT_NEAR(result.calibration.of_model, gap, 1e-12);
}

TEST(TextScores, OfOneTextInTwoPartsPoolToTheWhole) {
  const Protocol protocol = parse_protocol("lcpp-32");
  const Matrix<TokenScore> all = random_scores(6, protocol);
  std::vector<TextScores> parts;
  for (const std::size_t first : {0, 2}) {
    Matrix<TokenScore> part(first == 0 ? 2 : 4, all.cols());
    for (std::size_t w = 0; w < part.rows(); ++w) std::ranges::copy(all.row(first + w), part.row(w).begin());
    parts.push_back(text_scores(part, protocol, true));
  }
  const EvaluationResult whole = summarize(text_scores(all, protocol, true)), pooled = summarize(parts);
  EXPECT_EQ(to_json(pooled).dump(), to_json(whole).dump());
  EXPECT_EQ(statistics_json(pooled).dump(), statistics_json(whole).dump());
  parts[1].protocol = "gptq-32";
  EXPECT_THROW(summarize(parts), Error);
}

TEST(TextScores, DerivedIntervalsAreThoseOfTheirResamples) {
  // The difference of perplexities by brute force: its value in every resample, whose spread the interval must have.
  const Protocol protocol = parse_protocol("lcpp-32");
  const TextScores text = text_scores(random_scores(40, protocol), protocol, true);
  const EvaluationResult result = summarize(text);
  RandomStream random(5, "resamples");
  std::vector<double> differences;
  for (int r = 0; r < 4000; ++r) {
    double nll = 0, base = 0;
    for (int w = 0; w < 40; ++w) {
      const WindowScores& window = text.windows[random.below(40)];
      nll += window.mean[Statistic::nll] / 40;
      base += window.mean[Statistic::nll_base] / 40;
    }
    differences.push_back(std::exp(nll) - std::exp(base));
  }
  std::ranges::sort(differences);
  const Interval& interval = *result.reference->ppl_difference.interval_95;
  const double width = percentile(differences, 0.975) - percentile(differences, 0.025);
  EXPECT_NEAR(interval.high - interval.low, width, 0.15 * width);
  EXPECT_NEAR(interval.low, percentile(differences, 0.025), 0.15 * width);
  EXPECT_NEAR(result.reference->ppl_ratio.interval_95->low, std::exp(result.reference->ln_ppl_ratio_95->low), 1e-12);
}

TEST(TextScores, DesignEffectIsOneOfIndependentTokensAndTheirNumberOfEqualOnes) {
  const Protocol protocol{"p", 102, 1, BosPolicy::none};  // 100 scored
  Matrix<TokenScore> independent(200, 100), equal(200, 100);
  RandomStream random(3, "design");
  for (std::size_t w = 0; w < 200; ++w) {
    const double shared = random.uniform();
    for (std::size_t t = 0; t < 100; ++t) {
      independent(w, t).kl = random.uniform();
      equal(w, t).kl = shared;
    }
  }
  const auto design = [&](const Matrix<TokenScore>& scores) {
    return summarize(text_scores(scores, protocol, true), Inference::point).reference->kl_design;
  };
  EXPECT_NEAR(design(independent).effect, 1, 0.25);
  EXPECT_NEAR(design(equal).effect, 100, 1);
  EXPECT_NEAR(design(equal).effective_tokens, 200, 2);
}

TEST(TextScores, PointValuesAreThoseOfFullInferenceWithoutIntervals) {
  const Protocol protocol = parse_protocol("lcpp-32");
  const TextScores text = text_scores(random_scores(6, protocol), protocol, true);
  const EvaluationResult full = summarize(text), point = summarize(text, Inference::point);
  EXPECT_EQ(point.reference->kl_mean, full.reference->kl_mean);
  EXPECT_EQ(point.reference->kl_999, full.reference->kl_999);
  EXPECT_FALSE(point.reference->kl_mean_95.has_value());
  EXPECT_FALSE(point.means[Statistic::overlap].interval_95.has_value());
}

TEST(OverlapCounts, GivePercentilesToABin) {
  std::vector<TokenScore> scores(1001);
  for (std::size_t i = 0; i < scores.size(); ++i) scores[i].overlap = static_cast<double>(i) / 1000;
  OverlapCounts counts;
  EXPECT_EQ(counts.percentile(0.01), 0);
  counts.add(scores);
  for (const double fraction : {0.01, 0.25, 0.5, 0.999}) EXPECT_NEAR(counts.percentile(fraction), fraction, 2e-3);
  OverlapCounts same;
  scores.assign(10, {});
  for (TokenScore& score : scores) score.overlap = 1;
  same.add(scores);
  EXPECT_EQ(same.percentile(0.01), 1);
}

TEST(TextScores, OfEqualModelsHaveNoDistanceAnywhere) {
  const auto model = random_model(small_architecture());
  const EvaluationResult result = evaluate(model, &model, random_ids(200, 50), 1, parse_protocol("gptq-32"),
                                           silent_progress(), {.scores = {.worst_tokens = 3, .detail = true}});
  for (const Statistic statistic : {Statistic::kl, Statistic::dp, Statistic::added_loss, Statistic::energy_distance})
    EXPECT_EQ(result.means[statistic].value, 0) << info_of(statistic).name;
  for (const Statistic statistic : {Statistic::same_top, Statistic::overlap, Statistic::agreement_3,
                                    Statistic::agreement_20, Statistic::tau_3, Statistic::rho_20})
    EXPECT_DOUBLE_EQ(result.means[statistic].value, 1) << info_of(statistic).name;
  EXPECT_EQ(result.reference->overlap_1, 1);
  EXPECT_NEAR(result.reference->nll_correlation, 1, 1e-12);
  EXPECT_EQ(result.ranks->difference.value, 0);
  EXPECT_EQ(result.reference->ppl_difference.interval_95->high, 0);
}

TEST(TextScores, AreTheSameForAnyNumberOfThreadsAndWindowsAtOnce) {
  const auto model = random_model(small_architecture(), DType::bf16), reference = random_model(small_architecture());
  const auto run = [&](int threads, std::size_t at_once) {
    set_thread_count(threads);
    const EvaluationResult result =
        evaluate(model, &reference, random_ids(700, 50), 1, parse_protocol("lcpp-48"), silent_progress(),
                 {.windows_at_once = at_once, .scores = {.worst_tokens = 7, .detail = true}});
    set_thread_count(0);
    std::string text = statistics_json(result).dump();
    for (const WorstToken& token : result.reference->audit->tokens)
      text += std::to_string(token.exemplar.window) + ":" + std::to_string(token.exemplar.position) + " ";
    return text;
  };
  const std::string one = run(1, 0);
  EXPECT_EQ(run(4, 0), one);
  EXPECT_EQ(run(2, 3), one);
}

}  // namespace
}  // namespace adze
