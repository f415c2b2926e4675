#include <algorithm>
#include <cmath>
#include <functional>

#include <nlohmann/json.hpp>

#include "evaluate/evaluate.h"

namespace adze {
namespace {

using Scores = MatrixView<const TokenScore>;
using Quantity = std::function<double(const TokenScore&)>;

struct Mean {
  double value = 0;
  double error = 0;  // sqrt(variance / (n - 1)), tokens taken as independent
};

std::vector<double> all_values(Scores scores, const Quantity& quantity) {
  std::vector<double> values;
  values.reserve(scores.shape().count());
  for (std::size_t w = 0; w < scores.rows(); ++w)
    for (const TokenScore& score : scores.row(w)) values.push_back(quantity(score));
  return values;
}

std::vector<double> window_means(Scores scores, const Quantity& quantity) {
  std::vector<double> means(scores.rows());
  for (std::size_t w = 0; w < scores.rows(); ++w) {
    for (const TokenScore& score : scores.row(w)) means[w] += quantity(score);
    means[w] /= static_cast<double>(scores.cols());
  }
  return means;
}

/// Two passes: the differences from the mean do not cancel.
Mean mean_of(std::span<const double> values) {
  const auto n = static_cast<double>(values.size());
  Mean mean;
  for (const double value : values) mean.value += value;
  mean.value /= n;
  double square = 0;
  for (const double value : values) square += (value - mean.value) * (value - mean.value);
  mean.error = std::sqrt(square / n / (n - 1));
  return mean;
}

Mean mean_of(Scores scores, const Quantity& quantity) { return mean_of(all_values(scores, quantity)); }

constexpr double kHighPercentile = 0.999;

void put_kl(Scores scores, ReferenceResult& result) {
  const Quantity kl = [](const TokenScore& s) { return s.kl; };
  std::vector<double> values = all_values(scores, kl);
  const MatrixView<const double> by_window(values.data(), scores.shape());
  result.kl_median_se = bootstrap_percentile_error(by_window, 0.5);
  result.kl_999_se = bootstrap_percentile_error(by_window, kHighPercentile);
  const Mean mean = mean_of(values);
  result.kl_mean = mean.value;
  result.kl_mean_se = mean.error;
  std::ranges::sort(values);
  result.kl_median = percentile(values, 0.5);
  result.kl_99 = percentile(values, 0.99);
  result.kl_999 = percentile(values, kHighPercentile);
  result.kl_max = values.back();
  result.window_kl = window_means(scores, kl);
  result.kl_mean_95 = bootstrap_mean(result.window_kl);
}

/// The error of the paired difference is sqrt(s_Q^2 + s_P^2 - 2 cov), which is the error of the mean of the
/// differences.
void put_ratio(Scores scores, ReferenceResult& result) {
  const Mean base = mean_of(scores, [](const TokenScore& s) { return s.nll_base; });
  result.perplexity_base = std::exp(base.value);
  result.perplexity_base_se = result.perplexity_base * base.error;
  const Quantity difference = [](const TokenScore& s) { return s.nll - s.nll_base; };
  const Mean ratio = mean_of(scores, difference);
  result.ln_ppl_ratio = ratio.value;
  result.ln_ppl_ratio_se = ratio.error;
  result.ln_ppl_ratio_95 = bootstrap_mean(window_means(scores, difference));
}

void put_probabilities(Scores scores, ReferenceResult& result) {
  const Mean same = mean_of(scores, [](const TokenScore& s) { return s.same_top ? 1.0 : 0.0; });
  result.same_top = same.value;
  result.same_top_se = same.error;  // of zeros and ones: sqrt(p (1 - p) / (n - 1))
  result.mean_dp = mean_of(scores, [](const TokenScore& s) { return s.dp; }).value;
  const Mean square = mean_of(scores, [](const TokenScore& s) { return s.dp * s.dp; });
  result.rms_dp = std::sqrt(square.value);
  result.rms_dp_se = square.value == 0 ? 0 : 0.5 / result.rms_dp * square.error;
}

nlohmann::json to_json(const std::optional<Interval>& interval) {
  if (!interval) return nullptr;
  return nlohmann::json::array({interval->low, interval->high});
}

nlohmann::json to_json(const std::optional<double>& value) { return value ? nlohmann::json(*value) : nullptr; }

void put_reference(const ReferenceResult& reference, nlohmann::json& json) {
  json["perplexity_base"] = reference.perplexity_base;
  json["perplexity_base_se"] = reference.perplexity_base_se;
  json["ln_ppl_ratio"] = reference.ln_ppl_ratio;
  json["ln_ppl_ratio_se"] = reference.ln_ppl_ratio_se;
  json["ln_ppl_ratio_95"] = to_json(reference.ln_ppl_ratio_95);
  json["kl_mean"] = reference.kl_mean;
  json["kl_mean_se"] = reference.kl_mean_se;
  json["kl_mean_95"] = to_json(reference.kl_mean_95);
  json["kl_median"] = reference.kl_median;
  json["kl_median_se"] = to_json(reference.kl_median_se);
  json["kl_99"] = reference.kl_99;
  json["kl_999"] = reference.kl_999;
  json["kl_999_se"] = to_json(reference.kl_999_se);
  json["kl_max"] = reference.kl_max;
  json["same_top"] = reference.same_top;
  json["same_top_se"] = reference.same_top_se;
  json["mean_dp"] = reference.mean_dp;
  json["rms_dp"] = reference.rms_dp;
  json["rms_dp_se"] = reference.rms_dp_se;
}

}  // namespace

EvaluationResult summarize(Scores scores, const Protocol& protocol, bool with_reference) {
  assert(scores.rows() > 0 && scores.cols() == protocol.scored_per_window());
  EvaluationResult result;
  result.protocol = protocol.name;
  result.windows = scores.rows();
  result.tokens = scores.shape().count();
  const Quantity nll = [](const TokenScore& s) { return s.nll; };
  const Mean mean = mean_of(scores, nll);
  result.perplexity = std::exp(mean.value);
  result.perplexity_se = result.perplexity * mean.error;
  result.window_nll = window_means(scores, nll);
  if (!with_reference) return result;
  ReferenceResult& reference = result.reference.emplace();
  put_ratio(scores, reference);
  put_kl(scores, reference);
  put_probabilities(scores, reference);
  return result;
}

nlohmann::json to_json(const EvaluationResult& result) {
  nlohmann::json json = {{"protocol", result.protocol},
                         {"windows", result.windows},
                         {"tokens", result.tokens},
                         {"perplexity", result.perplexity},
                         {"perplexity_se", result.perplexity_se}};
  if (result.reference) put_reference(*result.reference, json);
  return json;
}

}  // namespace adze
