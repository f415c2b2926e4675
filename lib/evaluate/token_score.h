// What one prediction tells: the likelihood of the true next token and, against a reference model's logits for the same
// context, how far the two distributions are apart. Everything else is a reduction of these.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace adze {

inline constexpr std::array<std::size_t, 4> kAgreementSizes = {3, 5, 10, 20};  ///< of 1 it is same_top
inline constexpr std::array<std::size_t, 3> kRankedSizes = {3, 10, 20};

/// Natural logarithms. P is the reference, Q the model judged; Q(top) is the probability of Q's most likely token, ties
/// counting for the lowest id. Without a reference what names P stays 0. A transient: TokenTrace is what is kept.
struct TokenScore {
  double nll = 0;         ///< -log Q(target)
  double nll_base = 0;    ///< -log P(target)
  double kl = 0;          ///< sum over the vocabulary of P (log P - log Q), never below 0
  double dp = 0;          ///< Q(target) - P(target)
  double overlap = 0;     ///< sum of min(P, Q): the chance that a sampled token can be made the same
  bool same_top = false;  ///< both give their largest logit to the same token
  bool top_right = false, top_right_base = false;          ///< the most likely token is the target
  std::int32_t top = 0, top_base = 0;                      ///< most likely token
  double top_surprise = 0, top_surprise_base = 0;          ///< -log Q(top), -log P(top)
  double entropy = 0, entropy_base = 0;                    ///< of Q and of P
  double log_sum = 0, log_sum_base = 0;                    ///< logsumexp of the logits: minus the energy
  std::array<double, kAgreementSizes.size()> agreement{};  ///< shared tokens over all tokens of both sets of top k
  std::array<double, kRankedSizes.size()> tau{}, rho{};    ///< of P's top k, kendall_tau_b and spearman_rho
};

/// What one worker needs to score tokens; grows to the vocabulary.
struct ScoreScratch {
  std::vector<float> exponentials;
  std::vector<float> base_exponentials;
};

/// Scores one position. `logits`: [vocab] of the model; `base`: [vocab] of the reference, or empty; all finite.
/// Exponentials are float, sums double; equal logits give kl and dp of exactly 0 and an overlap of exactly 1. Top sets
/// are those of the whole vocabulary where it is smaller than k; rankings of one token agree.
TokenScore score_token(std::span<const float> logits, std::span<const float> base, std::int32_t target,
                       ScoreScratch& scratch);

}  // namespace adze
