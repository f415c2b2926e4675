// What a judgement says of a model, as values: of one text, or of several pooled. docs/evaluation.md defines every
// number.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "evaluate/bootstrap.h"
#include "evaluate/text_scores.h"

namespace adze {

/// A number with both kinds of error.
struct Estimate {
  double value = 0;
  double se = 0;  ///< tokens taken as independent (llama.cpp's formulas): too small
  std::optional<Interval>
      interval_95;  ///< whole windows resampled; nothing with a single window or where not asked for
};

struct PercentileValue {
  double fraction = 0;
  double value = 0;
};

/// Tokens whose KL exceeds a threshold: what stands in for intervals of extreme percentiles, which bootstrap cannot
/// give.
struct TailCount {
  double nats = 0;
  std::uint64_t tokens = 0;
  Interval share_95;  ///< Wilson
};

/// How much less a text says than as many independent tokens would.
struct DesignEffect {
  double effect = 1;  ///< variance of the mean over windows / that of independent tokens
  double effective_tokens = 0;
};

/// Expected calibration error of the claim "the most likely token is the next one", in 15 equal bins.
struct CalibrationError {
  double of_model = 0;
  double of_reference = 0;
};

/// Mean effective rank of the hidden states of the first windows before the head.
struct RankResult {
  std::size_t windows = 0;
  Estimate of_model, of_reference, difference;
};

struct WorstWindow {
  std::size_t part = 0;  ///< text, where several are pooled
  std::size_t window = 0;
  double kl = 0;          ///< mean over its tokens
  double added_loss = 0;  ///< likewise
};

struct WorstToken {
  std::size_t part = 0;
  Exemplar exemplar;
};

/// A tenth of the scored tokens, by how often their id occurs in the text.
struct FrequencyDecile {
  std::uint64_t least = 0, most = 0;  ///< occurrences of its tokens
  std::size_t tokens = 0;
  double kl = 0, added_loss = 0;   ///< means
  double share_of_added_loss = 0;  ///< of the sum over all tokens; may be below 0 or above 1
};

/// What compression hurts most: for people to read.
struct Audit {
  std::vector<WorstToken> tokens;    ///< falling KL
  std::vector<WorstWindow> windows;  ///< falling KL
  /// Lorenz curve: the share of all added loss (of tokens that lost at all) that this share of tokens carries.
  std::vector<PercentileValue> lorenz;
  std::vector<FrequencyDecile> frequency;
};

/// Distances from the reference. Every `_se` but those of percentiles treats tokens as independent (llama.cpp's
/// formulas) and so understates; the intervals and the errors of percentiles resample windows. That of the 99.9 % one
/// is rough: see bootstrap_percentile_error.
struct ReferenceResult {
  double perplexity_base = 0, perplexity_base_se = 0;
  double ln_ppl_ratio = 0, ln_ppl_ratio_se = 0;  ///< ln(perplexity / perplexity_base), paired
  double kl_mean = 0, kl_mean_se = 0;
  double kl_median = 0, kl_99 = 0, kl_999 = 0, kl_max = 0;  ///< kl_999: 99.9 %
  std::optional<double> kl_median_se, kl_999_se;            ///< nothing with a single window
  double same_top = 0, same_top_se = 0;                     ///< share of positions
  double mean_dp = 0, rms_dp = 0, rms_dp_se = 0;            ///< change of the true token's probability
  std::optional<Interval> kl_mean_95;                       ///< nothing with a single window
  std::optional<Interval> ln_ppl_ratio_95;                  ///< likewise
  std::vector<double> window_kl;                            ///< mean per window, for paired comparison of models

  Estimate ppl_ratio, ppl_difference, rms_dp_estimate;
  double nll_correlation = 0;  ///< of the tokens' nll under both models; 1 where one does not vary
  std::vector<PercentileValue> kl_percentiles, dp_percentiles;
  double dp_tail_ratio = 1;  ///< -(1 % of dp) / (99 % of dp): about 1 for noise, larger where probability is lost
  std::vector<TailCount> kl_above;
  double overlap_1 = 0;  ///< 1 % percentile of overlap, to 1 / 4096
  DesignEffect kl_design, loss_design;
  std::optional<Audit> audit;  ///< where worst tokens were asked for
};

struct EvaluationResult {
  std::string protocol;
  std::size_t windows = 0;
  std::size_t tokens = 0;  ///< scored
  double perplexity = 0, perplexity_se = 0;
  std::vector<double> window_nll;            ///< mean per window
  std::optional<ReferenceResult> reference;  ///< when there was one

  PerStatistic<Estimate> means;     ///< those that need a reference are 0 without one
  CalibrationError calibration;     ///< of_reference: 0 without one
  std::optional<RankResult> ranks;  ///< where details were asked for
};

enum class Inference : std::uint8_t {
  point,  ///< values and errors of independent tokens: for searches that judge thousands of models
  full,   ///< intervals and errors of percentiles, too, which take a fraction of a second
};

/// The statistics of one text, or of several under the same model pooled, every window counting alike. Throws usage
/// when their protocols differ, internal when only some have a reference. Not empty.
EvaluationResult summarize(std::span<const TextScores> texts, Inference inference = Inference::full);
inline EvaluationResult summarize(const TextScores& text, Inference inference = Inference::full) {
  return summarize(std::span(&text, 1), inference);
}

/// "minor" for 0.01: what a mean KL of language models usually means (bands of docs/evaluation.md).
std::string_view kl_in_words(double kl_mean);

/// Flat object: protocol, windows, tokens, perplexity, perplexity_se and, with a reference, perplexity_base, kl_mean,
/// kl_mean_se, kl_mean_95 ([low, high] or null), kl_median, kl_median_se (or null), kl_99, kl_999, kl_999_se (or null),
/// kl_max, same_top, rms_dp, ln_ppl_ratio, ...
nlohmann::json to_json(const EvaluationResult& result);
/// Everything else, in objects: means, percentiles, tails, ...; not the audit.
nlohmann::ordered_json statistics_json(const EvaluationResult& result);

nlohmann::ordered_json to_json(const std::optional<Interval>& interval);  ///< [low, high] or null

}  // namespace adze
