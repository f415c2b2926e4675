#include <algorithm>
#include <cassert>
#include <cmath>
#include <functional>

#include "base/error.h"
#include "evaluate/audit.h"
#include "evaluate/result.h"

namespace adze {
namespace {

constexpr std::array kKlFractions = {1.0, 0.999, 0.99, 0.95, 0.9, 0.5, 0.1, 0.05, 0.01, 0.0};
constexpr std::array kDpFractions = {1.0, 0.999, 0.99, 0.95, 0.9, 0.75, 0.5, 0.25, 0.1, 0.05, 0.01, 0.001, 0.0};
constexpr std::array kTailNats = {1.0, 3.0, 10.0};
constexpr double kHighPercentile = 0.999;

using Texts = std::span<const TextScores>;

/// All windows of all texts, in order.
std::vector<const WindowScores*> windows_of(Texts texts) {
  std::vector<const WindowScores*> windows;
  for (const TextScores& text : texts)
    for (const WindowScores& window : text.windows) windows.push_back(&window);
  return windows;
}

/// Moments over all tokens, from those of windows of `each` tokens.
class Moments {
 public:
  Moments(const std::vector<const WindowScores*>& windows, std::size_t each)
      : windows_(windows), each_(static_cast<double>(each)), tokens_(static_cast<double>(each * windows.size())) {}

  double tokens() const { return tokens_; }
  std::vector<double> window_means(Statistic statistic) const {
    std::vector<double> means;
    for (const WindowScores* const window : windows_) means.push_back(window->mean[statistic]);
    return means;
  }
  double mean(Statistic statistic) const {
    double sum = 0;
    for (const WindowScores* const window : windows_) sum += window->mean[statistic];
    return sum / static_cast<double>(windows_.size());
  }
  /// Sum of squared deviations from the mean of all: within windows, and of windows.
  double square(Statistic statistic) const {
    const double all = mean(statistic);
    double sum = 0;
    for (const WindowScores* const window : windows_) {
      const double offset = window->mean[statistic] - all;
      sum += window->square[statistic] + each_ * offset * offset;
    }
    return sum;
  }
  /// sqrt(variance / (n - 1)), tokens taken as independent.
  double error(Statistic statistic) const { return std::sqrt(square(statistic) / tokens_ / (tokens_ - 1)); }
  double correlation_of_losses() const {
    const double nll = mean(Statistic::nll), nll_base = mean(Statistic::nll_base);
    double product = 0;
    for (const WindowScores* const window : windows_)
      product += window->loss_product +
                 each_ * (window->mean[Statistic::nll] - nll) * (window->mean[Statistic::nll_base] - nll_base);
    const double variances = square(Statistic::nll) * square(Statistic::nll_base);
    return variances == 0 ? 1 : product / std::sqrt(variances);
  }
  DesignEffect design(Statistic statistic) const {
    const double all = mean(statistic), of_tokens = square(statistic) / tokens_ / tokens_;
    double of_windows = 0;
    for (const WindowScores* const window : windows_) {
      const double offset = window->mean[statistic] - all;
      of_windows += offset * offset;
    }
    const auto n = static_cast<double>(windows_.size());
    of_windows /= n * n;  // what the bootstrap's resampled means vary by
    const double effect = of_tokens == 0 || windows_.size() < 2 ? 1 : of_windows / of_tokens;
    return {effect, effect == 0 ? tokens_ : tokens_ / effect};
  }

 private:
  const std::vector<const WindowScores*>& windows_;
  double each_, tokens_;
};

/// Numbers that are no means, turned into means of windows by the delta method so that they share the resamples: a
/// function f of means a and b has the window values f + f_a (a_w - a) + f_b (b_w - b).
struct Derived {
  double value;
  double se;
  std::function<double(const WindowScores&)> slope;  // f_a (a_w - a) + ...
};

Derived perplexity_ratio(const Moments& m) {
  const double log_ratio = m.mean(Statistic::added_loss), ratio = std::exp(log_ratio);
  return {ratio, ratio * m.error(Statistic::added_loss),
          [=](const WindowScores& w) { return ratio * (w.mean[Statistic::added_loss] - log_ratio); }};
}

/// u^2 = u_Q^2 + u_P^2 - 2 PPL_Q PPL_P cov, cov of independent tokens.
Derived perplexity_difference(const Moments& m) {
  const double nll = m.mean(Statistic::nll), base = m.mean(Statistic::nll_base);
  const double of_q = std::exp(nll), of_p = std::exp(base);
  const double u_q = of_q * m.error(Statistic::nll), u_p = of_p * m.error(Statistic::nll_base);
  const double product = m.correlation_of_losses() * u_q * u_p;
  return {of_q - of_p, std::sqrt(std::max(0.0, u_q * u_q + u_p * u_p - 2 * product)), [=](const WindowScores& w) {
            return of_q * (w.mean[Statistic::nll] - nll) - of_p * (w.mean[Statistic::nll_base] - base);
          }};
}

Derived root_mean_square_dp(const Moments& m) {
  const double square = m.mean(Statistic::dp_square), root = std::sqrt(square);
  if (root == 0) return {0, 0, [](const WindowScores&) { return 0.0; }};
  return {root, 0.5 / root * m.error(Statistic::dp_square),
          [=](const WindowScores& w) { return 0.5 / root * (w.mean[Statistic::dp_square] - square); }};
}

Interval cut(const Interval& interval, const Bounds& bounds) {
  return {std::clamp(interval.low, bounds.low, bounds.high), std::clamp(interval.high, bounds.low, bounds.high)};
}

/// Intervals of all means and derived numbers from one set of resamples.
void put_intervals(const std::vector<const WindowScores*>& windows, std::span<const Derived> derived,
                   EvaluationResult& result, std::span<Estimate* const> estimates) {
  MatrixD values(windows.size(), kStatisticCount + derived.size());
  for (std::size_t w = 0; w < windows.size(); ++w) {
    std::ranges::copy(windows[w]->mean.values, values.row(w).begin());
    for (std::size_t d = 0; d < derived.size(); ++d)
      values(w, kStatisticCount + d) = derived[d].value + derived[d].slope(*windows[w]);
  }
  const std::vector<ResampledMean> resampled = bootstrap_means(values);
  if (resampled.empty()) return;
  for (const StatisticInfo& info : statistics())
    if (result.reference || info.of_model_alone)
      result.means[info.statistic].interval_95 =
          cut(resampled[static_cast<std::size_t>(info.statistic)].interval_95, info.bounds);
  for (std::size_t d = 0; d < derived.size(); ++d)
    estimates[d]->interval_95 = resampled[kStatisticCount + d].interval_95;
  if (!result.reference) return;
  Estimate& ratio = result.reference->ppl_ratio;  // exp keeps order: exact, unlike the slope
  const Interval& log_ratio = *result.means[Statistic::added_loss].interval_95;
  ratio.interval_95 = Interval{std::exp(log_ratio.low), std::exp(log_ratio.high)};
}

/// Values of all tokens of all texts with the numbers of their windows, sorted.
std::vector<WindowValue> sorted_traces(Texts texts, float TokenTrace::*of) {
  std::vector<WindowValue> values;
  std::size_t tokens = 0;
  for (const TextScores& text : texts) tokens += text.tokens.shape().count();
  values.reserve(tokens);
  std::uint32_t window = 0;
  for (const TextScores& text : texts)
    for (std::size_t w = 0; w < text.tokens.rows(); ++w, ++window)
      for (const TokenTrace& token : text.tokens.row(w)) values.push_back({token.*of, window});
  std::ranges::sort(values, {}, &WindowValue::value);
  return values;
}

/// percentile() of sorted traces.
double percentile(std::span<const WindowValue> sorted, double fraction) {
  const double place = fraction * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::array<float, 2> pair{sorted[below].value, sorted[std::min(below + 1, sorted.size() - 1)].value};
  return adze::percentile(std::span<const float>(pair), place - static_cast<double>(below));
}

template <std::size_t N>
std::vector<PercentileValue> percentiles(std::span<const WindowValue> sorted, const std::array<double, N>& fractions) {
  std::vector<PercentileValue> values;
  for (const double fraction : fractions) values.push_back({fraction, percentile(sorted, fraction)});
  return values;
}

void put_kl_percentiles(Texts texts, std::size_t windows, Inference inference, ReferenceResult& result) {
  const std::vector<WindowValue> sorted = sorted_traces(texts, &TokenTrace::kl);
  if (inference == Inference::full) {
    result.kl_median_se = bootstrap_percentile_error(sorted, windows, 0.5);
    result.kl_999_se = bootstrap_percentile_error(sorted, windows, kHighPercentile);
  }
  result.kl_percentiles = percentiles(sorted, kKlFractions);
  result.kl_median = percentile(sorted, 0.5);
  result.kl_99 = percentile(sorted, 0.99);
  result.kl_999 = percentile(sorted, kHighPercentile);
  result.kl_max = sorted.back().value;
  for (const double nats : kTailNats) {
    const auto beyond = std::ranges::upper_bound(sorted, static_cast<float>(nats), {}, &WindowValue::value);
    const auto tokens = static_cast<std::uint64_t>(sorted.end() - beyond);
    result.kl_above.push_back({nats, tokens, wilson_interval(tokens, sorted.size())});
  }
}

void put_dp_percentiles(Texts texts, ReferenceResult& result) {
  const std::vector<WindowValue> sorted = sorted_traces(texts, &TokenTrace::dp);
  result.dp_percentiles = percentiles(sorted, kDpFractions);
  const double gains = percentile(sorted, 0.99), losses = -percentile(sorted, 0.01);
  if (gains > 0 && losses > 0) result.dp_tail_ratio = losses / gains;
}

double calibration_error(const std::vector<const WindowScores*>& windows, Reliability WindowScores::*of) {
  double gap = 0, tokens = 0;
  for (std::size_t bin = 0; bin < Reliability{}.size(); ++bin) {
    double right = 0, confidence = 0;
    for (const WindowScores* const window : windows) {
      right += (window->*of)[bin].right;
      confidence += (window->*of)[bin].confidence;
      tokens += (window->*of)[bin].tokens;
    }
    gap += std::abs(right - confidence);
  }
  return gap / tokens;
}

Estimate mean_estimate(std::span<const double> values, Inference inference) {
  const auto n = static_cast<double>(values.size());
  Estimate estimate;
  for (const double value : values) estimate.value += value / n;
  double square = 0;
  for (const double value : values) square += (value - estimate.value) * (value - estimate.value);
  if (values.size() > 1) estimate.se = std::sqrt(square / n / (n - 1));
  if (inference == Inference::full) estimate.interval_95 = bootstrap_mean(values);
  return estimate;
}

std::optional<RankResult> rank_result(Texts texts, Inference inference) {
  std::vector<double> model, reference, difference;
  for (const TextScores& text : texts)
    for (const WindowRank& rank : text.ranks) {
      model.push_back(rank.of_model);
      reference.push_back(rank.of_reference);
      difference.push_back(rank.of_model - rank.of_reference);
    }
  if (model.empty()) return std::nullopt;
  if (!texts.front().with_reference) return RankResult{model.size(), mean_estimate(model, inference), {}, {}};
  return RankResult{model.size(), mean_estimate(model, inference), mean_estimate(reference, inference),
                    mean_estimate(difference, inference)};
}

/// The flat fields that stand for means.
void put_flat(const Moments& moments, EvaluationResult& result) {
  const auto& means = result.means;
  result.perplexity = std::exp(means[Statistic::nll].value);
  result.perplexity_se = result.perplexity * means[Statistic::nll].se;
  result.window_nll = moments.window_means(Statistic::nll);
  if (!result.reference) return;
  ReferenceResult& r = *result.reference;
  r.perplexity_base = std::exp(means[Statistic::nll_base].value);
  r.perplexity_base_se = r.perplexity_base * means[Statistic::nll_base].se;
  r.ln_ppl_ratio = means[Statistic::added_loss].value;
  r.ln_ppl_ratio_se = means[Statistic::added_loss].se;
  r.ln_ppl_ratio_95 = means[Statistic::added_loss].interval_95;
  r.kl_mean = means[Statistic::kl].value;
  r.kl_mean_se = means[Statistic::kl].se;
  r.kl_mean_95 = means[Statistic::kl].interval_95;
  r.window_kl = moments.window_means(Statistic::kl);
  r.same_top = means[Statistic::same_top].value;
  r.same_top_se = means[Statistic::same_top].se;  // of zeros and ones: sqrt(p (1 - p) / (n - 1))
  r.mean_dp = means[Statistic::dp].value;
  r.rms_dp = r.rms_dp_estimate.value;
  r.rms_dp_se = r.rms_dp_estimate.se;
  r.nll_correlation = moments.correlation_of_losses();
  r.kl_design = moments.design(Statistic::kl);
  r.loss_design = moments.design(Statistic::added_loss);
}

void check_alike(Texts texts) {
  for (const TextScores& text : texts) {
    if (text.protocol != texts.front().protocol)
      fail(ErrorKind::usage, "numbers of the protocols {} and {} cannot be pooled or compared", texts.front().protocol,
           text.protocol);
    if (text.with_reference != texts.front().with_reference)
      fail(ErrorKind::internal, "texts with and without a reference are pooled");
  }
}

}  // namespace

EvaluationResult summarize(Texts texts, Inference inference) {
  assert(!texts.empty());
  check_alike(texts);
  const std::vector<const WindowScores*> windows = windows_of(texts);
  const std::size_t each = texts.front().ids->cols() - 1 - texts.front().score_from;
  const Moments moments(windows, each);
  EvaluationResult result;
  result.protocol = texts.front().protocol;
  result.windows = windows.size();
  result.tokens = windows.size() * each;
  if (texts.front().with_reference) result.reference.emplace();
  for (const StatisticInfo& info : statistics())
    if (result.reference || info.of_model_alone)
      result.means[info.statistic] = {moments.mean(info.statistic), moments.error(info.statistic), {}};
  result.calibration.of_model = calibration_error(windows, &WindowScores::reliability);
  std::vector<Derived> derived;
  std::vector<Estimate*> estimates;
  if (result.reference) {
    result.calibration.of_reference = calibration_error(windows, &WindowScores::reliability_base);
    derived = {perplexity_ratio(moments), perplexity_difference(moments), root_mean_square_dp(moments)};
    estimates = {&result.reference->ppl_ratio, &result.reference->ppl_difference, &result.reference->rms_dp_estimate};
    for (std::size_t d = 0; d < derived.size(); ++d) *estimates[d] = {derived[d].value, derived[d].se, {}};
  }
  if (inference == Inference::full) put_intervals(windows, derived, result, estimates);
  put_flat(moments, result);
  result.ranks = rank_result(texts, inference);
  if (!result.reference) return result;
  put_kl_percentiles(texts, windows.size(), inference, *result.reference);
  put_dp_percentiles(texts, *result.reference);
  OverlapCounts overlaps;
  for (const TextScores& text : texts) overlaps.add(text.overlaps);
  result.reference->overlap_1 = overlaps.percentile(0.01);
  result.reference->audit = audit_of(texts);
  return result;
}

std::string_view kl_in_words(double kl_mean) {
  struct Band {
    double below;
    std::string_view words;
  };
  constexpr std::array kBands{Band{0.002, "indistinguishable"}, Band{0.02, "minor"}, Band{0.1, "visible"},
                              Band{0.5, "damaged"}};
  for (const Band& band : kBands)
    if (kl_mean < band.below) return band.words;
  return "broken";
}

}  // namespace adze
