#include "evaluate/text_scores.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <tuple>

namespace adze {
namespace {

void put_moments(std::span<const TokenScore> scores, const StatisticInfo& info, WindowScores& window) {
  double& mean = window.mean[info.statistic];
  for (const TokenScore& score : scores) mean += info.of(score);
  mean /= static_cast<double>(scores.size());
  double& square = window.square[info.statistic];
  for (const TokenScore& score : scores) {
    const double offset = info.of(score) - mean;  // a second pass: differences from the mean do not cancel
    square += offset * offset;
  }
}

void count(double confidence, bool right, Reliability& bins) {
  const auto place = static_cast<std::size_t>(confidence * static_cast<double>(bins.size()));
  ReliabilityBin& bin = bins[std::min(place, bins.size() - 1)];
  ++bin.tokens;
  bin.right += right ? 1 : 0;
  bin.confidence += confidence;
}

/// True when a comes before b: larger KL, then earlier in the text.
bool is_worse(const Exemplar& a, const Exemplar& b) {
  return std::tuple(-a.score.kl, a.window, a.position) < std::tuple(-b.score.kl, b.window, b.position);
}

}  // namespace

TokenTrace trace_of(const TokenScore& score) {
  TokenTrace trace;
  trace.kl = static_cast<float>(score.kl);
  trace.dp = static_cast<float>(score.dp);
  trace.added_loss = static_cast<float>(score.nll - score.nll_base);
  trace.top = static_cast<std::uint32_t>(score.top) & 0x7FFFFFFFU;
  trace.changed = score.same_top ? 0U : 1U;
  return trace;
}

WindowScores reduce_window(std::span<const TokenScore> scores) {
  assert(!scores.empty());
  WindowScores window;
  for (const StatisticInfo& info : statistics()) put_moments(scores, info, window);
  const double nll = window.mean[Statistic::nll], nll_base = window.mean[Statistic::nll_base];
  for (const TokenScore& score : scores) {
    window.loss_product += (score.nll - nll) * (score.nll_base - nll_base);
    count(std::exp(-score.top_surprise), score.top_right, window.reliability);
    count(std::exp(-score.top_surprise_base), score.top_right_base, window.reliability_base);
  }
  return window;
}

void WorstTokens::offer(std::size_t window, std::span<const std::int32_t> ids, std::size_t first,
                        std::span<const TokenScore> scores) {
  if (most_ == 0) return;
  std::vector<Exemplar> found;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    found.push_back({window, first + i, {}, ids[first + i + 1], scores[i]});
    if (found.size() < 2 * most_ && i + 1 < scores.size()) continue;
    std::ranges::sort(found, is_worse);
    if (found.size() > most_) found.resize(most_);
  }
  for (Exemplar& exemplar : found) {
    const std::size_t end = exemplar.position + 1, begin = end - std::min(end, kContextTokens);
    exemplar.context.assign(ids.begin() + static_cast<std::ptrdiff_t>(begin),
                            ids.begin() + static_cast<std::ptrdiff_t>(end));
  }
  const std::lock_guard lock(mutex_);
  const auto middle = static_cast<std::ptrdiff_t>(worst_.size());
  worst_.insert(worst_.end(), std::make_move_iterator(found.begin()), std::make_move_iterator(found.end()));
  std::inplace_merge(worst_.begin(), worst_.begin() + middle, worst_.end(), is_worse);
  if (worst_.size() > most_) worst_.resize(most_);
}

void OverlapCounts::add(const OverlapCounts& other) {
  for (std::size_t bin = 0; bin <= kBins; ++bin) counts_[bin] += other.counts_[bin];
}

void OverlapCounts::add(std::span<const TokenScore> scores) {
  for (const TokenScore& score : scores) {
    const auto bin = static_cast<std::size_t>(std::max(0.0, score.overlap) * kBins);
    ++counts_[std::min(bin, kBins)];
  }
}

double OverlapCounts::percentile(double fraction) const {
  std::uint64_t all = 0;
  for (const std::uint64_t tokens : counts_) all += tokens;
  if (all == 0) return 0;
  const double place = fraction * static_cast<double>(all);
  double passed = 0;
  for (std::size_t bin = 0; bin <= kBins; ++bin) {
    const auto tokens = static_cast<double>(counts_[bin]);
    if (tokens > 0 && passed + tokens >= place)
      return std::min(1.0, (static_cast<double>(bin) + (place - passed) / tokens) / static_cast<double>(kBins));
    passed += tokens;
  }
  return 1;
}

}  // namespace adze
