// Judging a model on a text: perplexity, and the distance from a reference model on the same tokens in the same run.
//
// Both models go through the text block by block, one block in memory at a time, with the hidden states of all windows,
// or of as many as memory allows: windows do not touch each other, so reading the blocks again for every group of them
// is cheaper than keeping states on disk. Logits live a slice of rows at a time and nothing is written to disk. Results
// are reduced in window order, so they do not depend on the number of threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/progress.h"
#include "evaluate/bootstrap.h"
#include "evaluate/protocol.h"
#include "evaluate/token_score.h"
#include "model/weights.h"

namespace adze {

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
};

struct EvaluationResult {
  std::string protocol;
  std::size_t windows = 0;
  std::size_t tokens = 0;  ///< scored
  double perplexity = 0, perplexity_se = 0;
  std::vector<double> window_nll;            ///< mean per window
  std::optional<ReferenceResult> reference;  ///< when there was one
};

/// Scores of all scored positions, [windows x protocol.scored_per_window()], to the statistics.
EvaluationResult summarize(MatrixView<const TokenScore> scores, const Protocol& protocol, bool with_reference);

/// Runs `model`, and `reference` unless it is nullptr, over the text. `ids` and `bos` as for make_windows. Throws
/// bad_data when the text is too short, when the models' vocabularies differ, or when logits are not finite.
/// `windows_at_once`: whose states are held together, 0 for all; every such group takes all blocks through memory
/// again, and no bit of the result depends on it.
EvaluationResult evaluate(const ModelWeights& model, const ModelWeights* reference, std::span<const std::int32_t> ids,
                          std::optional<std::int32_t> bos, const Protocol& protocol, Progress& progress,
                          std::size_t windows_at_once = 0);

/// What evaluate() checks first: throws bad_data when the vocabularies differ, warns of windows beyond the model's
/// positions.
void check_models(const ModelWeights& model, const ModelWeights* reference, const Protocol& protocol,
                  Progress& progress);

/// Bytes that one thread scores a window of two models with, at most.
std::uint64_t scoring_bytes(std::size_t vocab, std::size_t hidden);

/// Flat object: protocol, windows, tokens, perplexity, perplexity_se and, with a reference, perplexity_base, kl_mean,
/// kl_mean_se, kl_mean_95 ([low, high] or null), kl_median, kl_median_se (or null), kl_99, kl_999, kl_999_se (or null),
/// kl_max, same_top, rms_dp, ln_ppl_ratio, ...
nlohmann::json to_json(const EvaluationResult& result);

}  // namespace adze
