// What one prediction tells: the likelihood of the true next token and, against a reference model's logits for the same
// context, how far the two distributions are apart. Everything else is a reduction of these.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace adze {

/// Natural logarithms. Without a reference, all but `nll` stay 0. `P` is the reference, `Q` the model judged.
struct TokenScore {
  double nll = 0;         ///< -log Q(target)
  double nll_base = 0;    ///< -log P(target)
  double kl = 0;          ///< sum over the vocabulary of P (log P - log Q), never below 0
  double dp = 0;          ///< Q(target) - P(target)
  bool same_top = false;  ///< both give their largest logit to the same token; ties count for the lowest id
};

/// Scores one position. `logits`: [vocab] of the model; `base`: [vocab] of the reference, or empty; all finite.
/// `scratch` grows to the vocabulary. Exponentials are float, sums double; equal logits give kl and dp of exactly 0.
TokenScore score_token(std::span<const float> logits, std::span<const float> base, std::int32_t target,
                       std::vector<float>& scratch);

}  // namespace adze
