#include "evaluate/token_score.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstddef>

#include "evaluate/rank_correlation.h"
#include "linalg/vector_math.h"

namespace adze {
namespace {

constexpr std::size_t kMostRanked = 20;
static_assert(kAgreementSizes.back() == kMostRanked && kRankedSizes.back() == kMostRanked);

/// The ids of the largest logits, in order, and the softmax.
struct Prediction {
  std::array<std::uint32_t, kMostRanked> ids{};
  std::size_t ranked = 0;  // ids in use: all of a small vocabulary
  SoftmaxView softmax;
  double log_sum = 0;  // of the exponentials of logits

  std::span<const std::uint32_t> top(std::size_t k) const { return std::span(ids).first(std::min(k, ranked)); }
  double surprise() const { return std::log(softmax.sum); }  // exp(largest - largest) is exactly 1
};

Prediction predict(std::span<const float> logits, std::vector<float>& buffer) {
  buffer.resize(std::max(buffer.size(), logits.size()));
  Prediction result;
  result.ranked = std::min(kMostRanked, logits.size());
  largest_places(logits, std::span(result.ids).first(result.ranked));
  const float most = logits[result.ids[0]];
  const std::span<float> exponentials(buffer.data(), logits.size());
  const double sum = exp_shifted(logits, most, 1.0f, exponentials);
  result.softmax = {logits, exponentials, most, sum};
  result.log_sum = most + std::log(sum);
  return result;
}

double jaccard(std::span<const std::uint32_t> a, std::span<const std::uint32_t> b) {
  std::size_t shared = 0;
  for (const std::uint32_t id : a) shared += static_cast<std::size_t>(std::ranges::count(b, id));
  return static_cast<double>(shared) / static_cast<double>(a.size() + b.size() - shared);
}

void put_ranking(const Prediction& q, const Prediction& p, TokenScore& score) {
  for (std::size_t i = 0; i < kAgreementSizes.size(); ++i)
    score.agreement[i] = jaccard(p.top(kAgreementSizes[i]), q.top(kAgreementSizes[i]));
  std::array<float, kMostRanked> of_p{}, of_q{};
  for (std::size_t i = 0; i < p.ranked; ++i) {
    of_p[i] = p.softmax.logits[p.ids[i]];
    of_q[i] = q.softmax.logits[p.ids[i]];
  }
  for (std::size_t i = 0; i < kRankedSizes.size(); ++i) {
    const std::size_t k = p.top(kRankedSizes[i]).size();
    score.tau[i] = k < 2 ? 1 : kendall_tau_b(std::span(of_p).first(k), std::span(of_q).first(k));
    score.rho[i] = k < 2 ? 1 : spearman_rho(std::span(of_p).first(k), std::span(of_q).first(k));
  }
}

}  // namespace

TokenScore score_token(std::span<const float> logits, std::span<const float> base, std::int32_t target,
                       ScoreScratch& scratch) {
  assert(base.empty() || base.size() == logits.size());
  assert(target >= 0 && static_cast<std::size_t>(target) < logits.size());
  const auto token = static_cast<std::size_t>(target);
  const Prediction q = predict(logits, scratch.exponentials);
  TokenScore score;
  score.nll = q.log_sum - logits[token];
  score.top = static_cast<std::int32_t>(q.ids[0]);
  score.top_right = score.top == target;
  score.top_surprise = q.surprise();
  score.log_sum = q.log_sum;
  const bool alone = base.empty();
  const Prediction p = alone ? q : predict(base, scratch.base_exponentials);
  const SoftmaxSums sums = compare_softmaxes(p.softmax, q.softmax);
  score.entropy = q.surprise() + sums.depth_q;
  if (alone) return score;
  score.nll_base = p.log_sum - base[token];
  score.top_base = static_cast<std::int32_t>(p.ids[0]);
  score.top_right_base = score.top_base == target;
  score.top_surprise_base = p.surprise();
  score.log_sum_base = p.log_sum;
  score.entropy_base = p.surprise() + sums.depth_p;
  // sum P (log P - log Q) with log P = p - log_sum(p): the logarithms of the sums leave the sum, as P adds up to 1.
  score.kl = std::max(0.0, sums.shift + (q.log_sum - p.log_sum));  // rounding can leave -1e-9
  score.overlap = 1 - 0.5 * sums.variation;                        // sum min(P, Q) = 1 - TV
  score.dp = std::exp(-score.nll) - std::exp(-score.nll_base);
  score.same_top = p.ids[0] == q.ids[0];
  put_ranking(q, p, score);
  return score;
}

}  // namespace adze
