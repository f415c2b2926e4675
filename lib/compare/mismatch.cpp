#include "compare/mismatch.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/random.h"
#include "evaluate/bootstrap.h"
#include "metrics/rank_correlation.h"

namespace adze {
namespace {

double mean_of(std::span<const double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double square_deviations(std::span<const double> values, double mean) {
  double sum = 0;
  for (const double value : values) sum += (value - mean) * (value - mean);
  return sum;
}

template <typename Value>
std::size_t smallest(std::size_t count, Value&& value) {
  std::size_t best = 0;
  for (std::size_t i = 1; i < count; ++i)
    if (value(i) < value(best)) best = i;
  return best;
}

/// Ranks 1, 2, ..., ties sharing the mean of theirs.
std::vector<double> ranks_of(std::span<const double> values) {
  std::vector<double> ranks;
  for (const double value : values) {
    double below = 0, equal = 0;
    for (const double other : values) {
      below += other < value;
      equal += other == value;
    }
    ranks.push_back(below + (equal + 1) / 2);
  }
  return ranks;
}

/// Kendall's W with its correction for ties.
double concordance_of(std::span<const std::vector<double>> losses) {
  const std::size_t n = losses.front().size();
  const auto m = static_cast<double>(losses.size());
  std::vector<double> sums(n);
  double ties = 0;
  for (const std::vector<double>& draw : losses) {
    const std::vector<double> ranks = ranks_of(draw);
    for (std::size_t i = 0; i < n; ++i) {
      sums[i] += ranks[i];
      const auto equal = static_cast<double>(std::ranges::count(draw, draw[i]));
      ties += equal * equal - 1;  // over a group of t equals this adds t^3 - t
    }
  }
  const auto count = static_cast<double>(n);
  const double most = m * m * (count * count * count - count) - m * ties;
  return most > 0 ? 12 * square_deviations(sums, mean_of(sums)) / most : 1;
}

}  // namespace

double student_quantile(std::size_t freedom) {
  constexpr std::array kTable = {12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281};
  if (freedom <= kTable.size()) return kTable[freedom - 1];
  // Cornish and Fisher's expansion about the normal quantile; below 1e-3 from 11 degrees of freedom on.
  constexpr double z = 1.959964;
  const auto v = static_cast<double>(freedom);
  return z + (std::pow(z, 3) + z) / (4 * v) + (5 * std::pow(z, 5) + 16 * std::pow(z, 3) + 3 * z) / (96 * v * v) +
         (3 * std::pow(z, 7) + 19 * std::pow(z, 5) + 17 * std::pow(z, 3) - 15 * z) / (384 * v * v * v);
}

Spread spread_of(std::span<const double> values) {
  Spread spread;
  spread.mean = mean_of(values);
  std::tie(spread.best, spread.worst) = std::pair(std::ranges::min(values), std::ranges::max(values));
  if (values.size() < 2) return spread;
  const auto n = static_cast<double>(values.size());
  spread.sd = std::sqrt(square_deviations(values, spread.mean) / (n - 1));
  if (spread.best == spread.worst) spread.mean = spread.best, spread.sd = 0;  // equal draws have exactly no spread
  spread.margin = student_quantile(values.size() - 1) * spread.sd / std::sqrt(n);
  return spread;
}

std::vector<double> Mismatch::values(std::size_t source, std::size_t judge) const {
  std::vector<double> values;
  for (const MatrixD& draw : draws) values.push_back(draw(source, judge));
  return values;
}

std::vector<double> Mismatch::means(std::size_t source) const {
  std::vector<double> values;
  for (const MatrixD& draw : draws) values.push_back(mean_of(draw.row(source)));
  return values;
}

std::vector<double> Mismatch::worsts(std::size_t source) const {
  std::vector<double> values;
  for (const MatrixD& draw : draws) values.push_back(std::ranges::max(draw.row(source)));
  return values;
}

std::size_t Mismatch::best_for(std::size_t judge) const {
  return smallest(sources.size(), [&](std::size_t s) { return cell(s, judge).mean; });
}

std::size_t Mismatch::best_on_average() const {
  return smallest(sources.size(), [&](std::size_t s) { return mean_of(means(s)); });
}

std::size_t Mismatch::best_at_worst() const {
  return smallest(sources.size(), [&](std::size_t s) { return mean_of(worsts(s)); });
}

MatrixD Mismatch::mean() const {
  MatrixD result(sources.size(), judges.size());
  for (std::size_t s = 0; s < sources.size(); ++s)
    for (std::size_t j = 0; j < judges.size(); ++j) result(s, j) = cell(s, j).mean;
  return result;
}

double probability_less(std::span<const double> a, std::span<const double> b) {
  double less = 0;
  for (const double x : a)
    for (const double y : b) less += x < y ? 1 : x == y ? 0.5 : 0;
  return less / static_cast<double>(a.size() * b.size());
}

Verdict compare_draws(std::span<const double> a, std::span<const double> b) {
  constexpr double kDecisive = 0.75;
  constexpr std::size_t kResamples = 1000;
  const double p = probability_less(a, b);
  const bool less = p >= kDecisive;
  if (!less && 1 - p < kDecisive) return Verdict::unresolved;
  RandomStream random(1, "compare/draws");
  const auto resampled = [&](std::span<const double> values) {
    std::vector<double> drawn;
    for (std::size_t i = 0; i < values.size(); ++i) drawn.push_back(values[random.below(values.size())]);
    return drawn;
  };
  std::vector<double> probabilities;
  for (std::size_t i = 0; i < kResamples; ++i) {
    const std::vector<double> x = resampled(a), y = resampled(b);
    probabilities.push_back(probability_less(x, y));
  }
  std::ranges::sort(probabilities);
  if (less) return percentile(probabilities, 0.025) > 0.5 ? Verdict::better : Verdict::unresolved;
  return percentile(probabilities, 0.975) < 0.5 ? Verdict::worse : Verdict::unresolved;
}

OrderStability order_stability(std::span<const std::vector<double>> losses) {
  OrderStability stability;
  if (losses.size() < 2 || losses.front().size() < 2) return stability;
  std::vector<double> taus;
  for (std::size_t r = 0; r < losses.size(); ++r)
    for (std::size_t s = r + 1; s < losses.size(); ++s) taus.push_back(kendall_tau(losses[r], losses[s]));
  std::ranges::sort(taus);
  stability.mean_tau = mean_of(taus);
  stability.low_tau = percentile(taus, 0.05);
  stability.concordance = concordance_of(losses);
  const std::size_t sources = losses.front().size();
  const std::size_t winner = smallest(sources, [&](std::size_t s) {
    double sum = 0;
    for (const std::vector<double>& draw : losses) sum += draw[s];
    return sum;
  });
  const auto wins = std::ranges::count_if(
      losses, [&](const std::vector<double>& draw) { return std::ranges::min(draw) == draw[winner]; });
  stability.winner_share = static_cast<double>(wins) / static_cast<double>(losses.size());
  return stability;
}

double VarianceShares::ratio() const {
  if (within_sd == 0) return between_sd == 0 ? 0 : std::numeric_limits<double>::infinity();
  return between_sd / within_sd;
}

VarianceShares variance_shares(std::span<const std::vector<double>> outcomes) {
  VarianceShares shares;
  const std::size_t draws = outcomes.front().size();
  std::vector<double> means;
  double within = 0;
  for (const std::vector<double>& source : outcomes) {
    const Spread spread = spread_of(source);
    means.push_back(spread.mean);
    within += spread.sd * spread.sd;
  }
  within /= static_cast<double>(outcomes.size());
  shares.within_sd = std::sqrt(within);
  if (means.size() < 2) return shares;
  const double between = square_deviations(means, mean_of(means)) / static_cast<double>(means.size() - 1);
  shares.between_sd = std::sqrt(std::max(0.0, between - within / static_cast<double>(draws)));
  return shares;
}

}  // namespace adze
