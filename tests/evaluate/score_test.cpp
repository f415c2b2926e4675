// Known cases of specs of perplexity and KL: synthetic models whose probabilities are given.
#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <set>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "evaluate/evaluate.h"
#include "evaluate/evaluate_testing.h"
#include "evaluate/rank_correlation.h"
#include "model/memory_source.h"

namespace adze {
namespace {

using Logits = std::vector<float>;

/// Scores one window of a model that gives `logits_of(position, target)`.
EvaluationResult run_protocol(const std::string& name, std::size_t window, auto&& logits_of) {
  const Protocol protocol = parse_protocol(name);
  EXPECT_EQ(protocol.window, window);
  Matrix<TokenScore> scores(1, protocol.scored_per_window());
  ScoreScratch scratch;
  for (std::size_t i = 0; i < scores.cols(); ++i) {
    const std::size_t position = protocol.score_from + i;
    const auto target = static_cast<std::int32_t>(position % 3);
    scores(0, i) = score_token(logits_of(position, target), {}, target, scratch);
  }
  return summarize(testing::text_scores(scores, protocol, false));
}

/// Vocabulary of 4: probability 1/2 for the target at even positions, 1/8 at odd ones, the rest shared equally.
Logits alternating(std::size_t position, std::int32_t target) {
  const double p = position % 2 == 0 ? 0.5 : 0.125;
  Logits logits(4, static_cast<float>(std::log((1 - p) / 3)));
  logits[static_cast<std::size_t>(target)] = static_cast<float>(std::log(p));
  return logits;
}

TEST(Perplexity, FollowsTheProtocolOnAlternatingProbabilities) {
  EXPECT_NEAR(run_protocol("gptq-8", 8, alternating).perplexity, std::exp(13 * std::log(2.0) / 7), 1e-5);  // 3.6228
  EXPECT_NEAR(run_protocol("lcpp-8", 8, alternating).perplexity, std::exp(5 * std::log(2.0) / 3), 1e-5);   // 3.1748
}

TEST(Perplexity, OfAUniformModelIsTheVocabularyUnderEveryProtocol) {
  for (const char* name : {"gptq-8", "lcpp-8"}) {
    const auto result = run_protocol(name, 8, [](std::size_t, std::int32_t) { return Logits(1000, 3.5f); });
    EXPECT_NEAR(result.perplexity, 1000.0, 1e-9);
    EXPECT_NEAR(result.perplexity_se, 0.0, 1e-9);
  }
}

TEST(Perplexity, ErrorIsThatOfIndependentTokens) {
  const auto result = run_protocol("lcpp-8", 8, alternating);  // nll: ln 2, ln 8, ln 2
  const double ln2 = std::log(2.0);
  const double variance = (1 + 9 + 1) / 3.0 * ln2 * ln2 - std::pow(5 * ln2 / 3, 2);
  EXPECT_NEAR(result.perplexity_se, result.perplexity * std::sqrt(variance / 2), 1e-5);
  EXPECT_EQ(result.tokens, 3u);
  EXPECT_EQ(result.windows, 1u);
}

TEST(ScoreToken, GivesTheKnownDivergence) {
  ScoreScratch scratch;
  const Logits p = {2, 1, 0}, q = {1.5f, 1.2f, 0.1f};
  const TokenScore score = score_token(q, p, 0, scratch);
  EXPECT_NEAR(score.kl, 0.0539007, 1e-6);
  EXPECT_NEAR(score.nll_base, 0.407606, 1e-6);
  EXPECT_NEAR(score.nll, 0.686835, 1e-6);
  EXPECT_NEAR(score.dp, std::exp(-0.686835) - std::exp(-0.407606), 1e-6);
  EXPECT_TRUE(score.same_top);
  EXPECT_NEAR(score.overlap, 0.837925, 1e-6);
  EXPECT_LE(1 - score.overlap, std::sqrt(score.kl / 2));  // Pinsker
  EXPECT_NEAR(-score.log_sum_base, -2.407606, 1e-6);      // the energy of P
  EXPECT_NEAR(score.top_surprise_base, 0.407606, 1e-6);
  EXPECT_TRUE(score.top_right && score.top_right_base);
}

TEST(ScoreToken, GivesEntropiesOverlapsAndRankingsOfTheDefinitions) {
  ScoreScratch scratch;
  const Logits p = testing::random_values(40, "p", 2.0), q = testing::random_values(40, "q", 2.0);
  const TokenScore score = score_token(q, p, 3, scratch);
  const auto shares = [](const Logits& logits) {
    std::vector<double> values;
    double sum = 0;
    for (const float value : logits) sum += std::exp(static_cast<double>(value));
    for (const float value : logits) values.push_back(std::exp(static_cast<double>(value)) / sum);
    return values;
  };
  const auto of_p = shares(p), of_q = shares(q);
  double overlap = 0, entropy = 0, entropy_base = 0;
  for (std::size_t v = 0; v < 40; ++v) {
    overlap += std::min(of_p[v], of_q[v]);
    entropy -= of_q[v] * std::log(of_q[v]);
    entropy_base -= of_p[v] * std::log(of_p[v]);
  }
  EXPECT_NEAR(score.overlap, overlap, 1e-6);
  EXPECT_NEAR(score.entropy, entropy, 1e-6);
  EXPECT_NEAR(score.entropy_base, entropy_base, 1e-6);
  const auto top = [](const Logits& logits, std::size_t k) {
    std::vector<std::size_t> ids(logits.size());
    std::iota(ids.begin(), ids.end(), std::size_t{0});
    std::ranges::stable_sort(ids, [&](std::size_t a, std::size_t b) { return logits[a] > logits[b]; });
    ids.resize(k);
    return ids;
  };
  for (std::size_t i = 0; i < kAgreementSizes.size(); ++i) {
    std::set<std::size_t> both, either;
    const auto a = top(p, kAgreementSizes[i]), b = top(q, kAgreementSizes[i]);
    either.insert(a.begin(), a.end());
    either.insert(b.begin(), b.end());
    for (const std::size_t id : a)
      if (std::ranges::find(b, id) != b.end()) both.insert(id);
    EXPECT_NEAR(score.agreement[i], static_cast<double>(both.size()) / static_cast<double>(either.size()), 1e-12);
  }
  for (std::size_t i = 0; i < kRankedSizes.size(); ++i) {
    Logits of_base, of_model;
    for (const std::size_t id : top(p, kRankedSizes[i])) {
      of_base.push_back(p[id]);
      of_model.push_back(q[id]);
    }
    EXPECT_EQ(score.tau[i], kendall_tau_b(of_base, of_model));
    EXPECT_EQ(score.rho[i], spearman_rho(of_base, of_model));
  }
}

TEST(ScoreToken, IgnoresAShiftOfAllLogits) {
  ScoreScratch scratch;
  const Logits p = {2, 1, 0}, q = {1.5f, 1.2f, 0.1f}, shifted = {-998.5f, -998.8f, -999.9f};
  EXPECT_NEAR(score_token(q, p, 1, scratch).kl, score_token(shifted, p, 1, scratch).kl, 1e-4);
}

TEST(ScoreToken, EqualLogitsHaveNoDivergenceAtAll) {
  ScoreScratch scratch;
  for (const std::size_t vocab : {1, 7, 8, 9, 1000}) {
    const Logits logits = testing::random_values(vocab, "logits", 5.0);
    const TokenScore score = score_token(logits, logits, 0, scratch);
    EXPECT_EQ(score.kl, 0.0);
    EXPECT_EQ(score.dp, 0.0);
    EXPECT_EQ(score.nll, score.nll_base);
    EXPECT_TRUE(score.same_top);
  }
}

TEST(ScoreToken, IsTheNaiveSumForAnyVocabulary) {
  ScoreScratch scratch;
  for (const std::size_t vocab : {2, 15, 16, 17, 333}) {
    const Logits p = testing::random_values(vocab, "p", 3.0), q = testing::random_values(vocab, "q", 3.0);
    double sum_p = 0, sum_q = 0, kl = 0;
    for (const float value : p) sum_p += std::exp(static_cast<double>(value));
    for (const float value : q) sum_q += std::exp(static_cast<double>(value));
    for (std::size_t v = 0; v < vocab; ++v)
      kl += std::exp(static_cast<double>(p[v])) / sum_p * (p[v] - std::log(sum_p) - q[v] + std::log(sum_q));
    EXPECT_NEAR(score_token(q, p, 0, scratch).kl, kl, 1e-6 * (1 + kl)) << vocab;
  }
}

TEST(ScoreToken, TiesOfTheTopCountForTheLowestId) {
  ScoreScratch scratch;
  EXPECT_TRUE(score_token(Logits{1, 3, 3}, Logits{0, 2, 1}, 0, scratch).same_top);
  EXPECT_FALSE(score_token(Logits{3, 3, 0}, Logits{0, 2, 1}, 0, scratch).same_top);
}

constexpr std::array kKl = {0.0, 0.1, 0.2, 0.3, 0.4, 2.0};

/// 2 windows of 3 scored positions.
Matrix<TokenScore> paired_scores() {
  Matrix<TokenScore> scores(2, 3);
  for (std::size_t i = 0; i < 6; ++i) {
    TokenScore& score = scores.values()[i];
    score.nll_base = 1.0 + static_cast<double>(i);
    score.nll = score.nll_base + 0.5 + 0.01 * static_cast<double>(i % 2);
    score.kl = kKl[i];
    score.dp = i % 2 == 0 ? 0.1 : -0.3;
    score.same_top = i != 2;
  }
  return scores;
}

TEST(Summary, AgreesWithHandComputedStatistics) {
  const EvaluationResult result = summarize(testing::text_scores(paired_scores(), parse_protocol("lcpp-8"), true));
  const ReferenceResult& r = result.reference.value();
  EXPECT_NEAR(r.kl_mean, 0.5, 1e-12);
  EXPECT_NEAR(r.kl_mean_se, std::sqrt(((0.25 + 0.16 + 0.09 + 0.04 + 0.01 + 2.25) / 6) / 5), 1e-12);
  EXPECT_NEAR(r.kl_median, 0.25, 1e-7);  // traces are floats
  std::vector<WindowValue> sorted;
  for (std::size_t i = 0; i < 6; ++i) sorted.push_back({static_cast<float>(kKl[i]), static_cast<std::uint32_t>(i / 3)});
  EXPECT_EQ(r.kl_median_se, bootstrap_percentile_error(sorted, 2, 0.5));
  EXPECT_EQ(r.kl_999_se, bootstrap_percentile_error(sorted, 2, 0.999));
  // The windows' own medians are 0.1 and 0.4, that of both is 0.25: half of the resamples lie 0.15 away.
  EXPECT_NEAR(*r.kl_median_se, 0.15 * std::sqrt(0.5), 0.01);
  EXPECT_NEAR(r.kl_999, 0.4 + (0.999 * 5 - 4) * 1.6, 1e-6);
  EXPECT_EQ(r.kl_max, 2.0);
  EXPECT_NEAR(r.same_top, 5.0 / 6, 1e-12);
  EXPECT_NEAR(r.same_top_se, std::sqrt(5.0 / 36 / 5), 1e-12);
  EXPECT_NEAR(r.mean_dp, -0.1, 1e-12);
  EXPECT_NEAR(r.rms_dp, std::sqrt(0.05), 1e-12);
  EXPECT_NEAR(r.rms_dp_se, 0.5 / std::sqrt(0.05) * std::sqrt(0.04 * 0.04 / 5), 1e-12);
  EXPECT_NEAR(r.perplexity_base, std::exp(3.5), 1e-9);
  EXPECT_NEAR(result.perplexity, std::exp(3.5 + 0.505), 1e-9);
  EXPECT_NEAR(r.ln_ppl_ratio, 0.505, 1e-12);
  // The paired error comes from the differences only; the losses themselves vary 200 times more.
  EXPECT_NEAR(r.ln_ppl_ratio_se, 0.005 / std::sqrt(5), 1e-12);
  EXPECT_GT(r.perplexity_base_se / r.perplexity_base, 100 * r.ln_ppl_ratio_se);
  EXPECT_NEAR(r.window_kl[0], 0.1, 1e-12);
  EXPECT_NEAR(r.window_kl[1], 0.9, 1e-12);
  ASSERT_TRUE(r.kl_mean_95.has_value());
  EXPECT_GE(r.kl_mean_95->low, 0.1 - 1e-12);
  EXPECT_LE(r.kl_mean_95->high, 0.9 + 1e-12);
}

TEST(Summary, BecomesAFlatJsonObject) {
  const auto json = to_json(summarize(testing::text_scores(paired_scores(), parse_protocol("lcpp-8"), true)));
  for (const char* key :
       {"protocol",  "windows",      "tokens",         "perplexity", "perplexity_se", "perplexity_base",
        "kl_mean",   "kl_mean_se",   "kl_mean_95",     "kl_median",  "kl_median_se",  "kl_99",
        "kl_999",    "kl_999_se",    "kl_max",         "same_top",   "same_top_se",   "rms_dp",
        "rms_dp_se", "ln_ppl_ratio", "ln_ppl_ratio_se"})
    EXPECT_TRUE(json.contains(key)) << key;
  EXPECT_EQ(json["protocol"], "lcpp-8");
  EXPECT_EQ(json["kl_mean_95"].size(), 2u);
  const auto alone = to_json(summarize(testing::text_scores(paired_scores(), parse_protocol("lcpp-8"), false)));
  EXPECT_FALSE(alone.contains("kl_mean"));
  Matrix<TokenScore> one(1, 3);
  const auto single = to_json(summarize(testing::text_scores(one, parse_protocol("lcpp-8"), true)));
  for (const char* key : {"kl_mean_95", "kl_median_se", "kl_999_se"}) EXPECT_TRUE(single[key].is_null()) << key;
  EXPECT_TRUE(json["kl_median_se"].is_number());
  EXPECT_TRUE(json["kl_999_se"].is_number());
}

}  // namespace
}  // namespace adze
