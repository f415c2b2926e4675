#include "evaluate/token_score.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <cstddef>

#include "linalg/vector_math.h"

namespace adze {
namespace {

struct Softmax {
  std::size_t top = 0;  // lowest id of the largest logit
  double sum = 0;       // of exp(logit - largest)
  double log_sum = 0;   // log of the sum of exp(logit)
};

/// Leaves exp(logit - largest) in `exponentials`.
Softmax softmax(std::span<const float> logits, std::span<float> exponentials) {
  const float most = largest(logits);
  Softmax result;
  result.top = static_cast<std::size_t>(std::ranges::find(logits, most) - logits.begin());
  result.sum = exp_shifted(logits, most, 1.0f, exponentials);
  result.log_sum = most + std::log(result.sum);
  return result;
}

/// sum of weights[v] * (p[v] - q[v]) in double, in eight interleaved sums: a single one would wait for each addition.
double weighted_difference(std::span<const float> weights, std::span<const float> p, std::span<const float> q) {
  constexpr std::size_t kLanes = 8;
  std::array<double, kLanes> sums{};
  const std::size_t whole = weights.size() / kLanes * kLanes;
  for (std::size_t v = 0; v < whole; v += kLanes)
    for (std::size_t lane = 0; lane < kLanes; ++lane)
      sums[lane] += static_cast<double>(weights[v + lane]) *
                    (static_cast<double>(p[v + lane]) - static_cast<double>(q[v + lane]));
  for (std::size_t v = whole; v < weights.size(); ++v)
    sums[v - whole] += static_cast<double>(weights[v]) * (static_cast<double>(p[v]) - static_cast<double>(q[v]));
  double sum = 0;
  for (const double part : sums) sum += part;
  return sum;
}

}  // namespace

TokenScore score_token(std::span<const float> logits, std::span<const float> base, std::int32_t target,
                       std::vector<float>& scratch) {
  assert(base.empty() || base.size() == logits.size());
  assert(target >= 0 && static_cast<std::size_t>(target) < logits.size());
  const auto token = static_cast<std::size_t>(target);
  scratch.resize(std::max(scratch.size(), logits.size()));
  const std::span<float> exponentials(scratch.data(), logits.size());
  const Softmax q = softmax(logits, exponentials);
  TokenScore score;
  score.nll = q.log_sum - logits[token];
  if (base.empty()) return score;
  const Softmax p = softmax(base, exponentials);
  score.nll_base = p.log_sum - base[token];
  // sum P (log P - log Q) with log P = p - log_sum(p): the logarithms of the sums leave the sum, as P adds up to 1.
  const double kl = weighted_difference(exponentials, base, logits) / p.sum + (q.log_sum - p.log_sum);
  score.kl = std::max(0.0, kl);  // rounding can leave -1e-9
  score.dp = std::exp(-score.nll) - std::exp(-score.nll_base);
  score.same_top = p.top == q.top;
  return score;
}

}  // namespace adze
