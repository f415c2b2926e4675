// A second opinion on what decoders compute: the forward pass of every family in double, written from its published
// definition as plainly as possible, one loop per sum. It reads config.json and the safetensors file by itself and
// shares no code with lib/model or lib/checkpoint, so that an error of one is not an error of both.
//
// Llama, Mistral, Qwen2, Qwen3, Gemma, Gemma 2, Gemma 3 (text), Phi-3, OLMo 2, GPT-2, OPT, and with experts Mixtral,
// Qwen2-MoE, Qwen3-MoE and OLMoE; RoPE plain, linear, llama3, yarn and longrope. Slow: for small models. Reads one
// model.safetensors in F32 or BF16 and the config keys of Transformers 4.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "base/matrix.h"

namespace adze::testing {

/// What is easily got wrong of a mixture of experts, of GPT-2 and OPT, or of heads that are rotated in part; the
/// reference does it on request, so that a test can show that its comparison would see it.
enum class Mistake : std::uint8_t {
  none,
  other_normalisation,  ///< weights of a token's experts are divided by their sum where they are not, or the reverse
  one_expert_more,      ///< per token
  one_expert_fewer,
  experts_swapped,  ///< the first two
  router_reversed,  ///< its first row is taken for that of the last expert, and so on
  gate_up_swapped,  ///< of each expert
  no_sigmoid,       ///< the shared expert is multiplied by what goes into the sigmoid
  no_shared_gate,   ///< the shared expert is multiplied by nothing
  no_shared_expert,
  positions_from_row_0,  ///< of OPT, whose first two rows are none; of GPT-2 from row 1
  no_positions,
  no_norm_bias,
  mean_kept,           ///< norms do not subtract it
  qkv_reversed,        ///< v, k, q
  not_transposed,      ///< GPT-2's square product behind attention
  rotated_whole,       ///< all elements of a head, with the angles of a whole one
  halves_of_the_head,  ///< element i turns with i + head_dim / 2
  neighbours_turn,     ///< element 2 i turns with 2 i + 1
  last_elements_turn,  ///< instead of the first ones
};

/// Logits after every token: [ids.size() x vocab]. Throws for an unknown model_type or RoPE, a missing tensor, and a
/// tensor in the file that the pass has no use for.
MatrixD reference_logits(const std::filesystem::path& folder, std::span<const std::int32_t> ids,
                         Mistake mistake = Mistake::none);

/// What routers make of a text.
struct ReferenceRouting {
  /// [ids.size()] By how much the router's logit of the last expert that is chosen is above that of the first one that
  /// is not, in the block where that is least; infinite where there is no choice.
  std::vector<double> margins;
  std::vector<std::size_t> tokens;  ///< [experts] that went there, of all blocks; empty without experts
};
ReferenceRouting reference_routing(const std::filesystem::path& folder, std::span<const std::int32_t> ids);

/// Logarithm of the softmax of every row.
template <typename T>
MatrixD log_probabilities(const Matrix<T>& logits) {
  MatrixD out(logits.shape());
  for (std::size_t r = 0; r < logits.rows(); ++r) {
    const double largest = *std::ranges::max_element(logits.row(r));
    double sum = 0;
    for (const T logit : logits.row(r)) sum += std::exp(logit - largest);
    for (std::size_t c = 0; c < logits.cols(); ++c) out(r, c) = logits(r, c) - largest - std::log(sum);
  }
  return out;
}

/// Mean over rows of the entropy, in nats.  logs: log_probabilities().
inline double mean_entropy(const MatrixD& logs) {
  double total = 0;
  for (const double p : logs.values()) total -= std::exp(p) * p;
  return total / static_cast<double>(logs.rows());
}

/// The largest |a - b|; infinite where one is not a number. Equal shapes.
template <typename A, typename B>
double largest_difference(const Matrix<A>& a, const Matrix<B>& b) {
  if (a.shape() != b.shape()) return INFINITY;
  double largest = 0;
  for (std::size_t i = 0; i < a.values().size(); ++i) {
    const double difference = std::abs(static_cast<double>(a.values()[i]) - static_cast<double>(b.values()[i]));
    if (!(difference <= largest)) largest = std::isnan(difference) ? INFINITY : difference;
  }
  return largest;
}

/// Largest minus smallest value.
template <typename T>
double range_of(const Matrix<T>& matrix) {
  const auto [smallest, largest] = std::ranges::minmax_element(matrix.values());
  return static_cast<double>(*largest) - static_cast<double>(*smallest);
}

}  // namespace adze::testing
