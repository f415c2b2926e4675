#include "evaluate/compare.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <functional>
#include <numeric>

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace adze {
namespace {

using Json = nlohmann::ordered_json;

/// The texts were the same ones when the references agree on them to the last bit; without one, as far as can be seen.
void check_comparable(const EvaluationResult& a, const EvaluationResult& b) {
  if (a.protocol != b.protocol)
    fail(ErrorKind::usage, "numbers of the protocols {} and {} cannot be compared", a.protocol, b.protocol);
  const bool same = a.windows == b.windows && a.reference.has_value() == b.reference.has_value() &&
                    (!a.reference || a.reference->perplexity_base == b.reference->perplexity_base);
  if (!same) fail(ErrorKind::usage, "models are compared on the same text against the same reference only");
}

double deviation_of(const MatrixD& values, std::size_t column, double mean) {
  double square = 0;
  for (std::size_t w = 0; w < values.rows(); ++w) square += (values(w, column) - mean) * (values(w, column) - mean);
  return std::sqrt(square / static_cast<double>(values.rows() - 1));
}

/// The differences of one column, and what resampling says of it, where it was.
PairedDifference difference_of(const MatrixD& values, std::size_t column, const std::vector<ResampledMean>& resampled,
                               double margin) {
  PairedDifference result;
  for (std::size_t w = 0; w < values.rows(); ++w) result.value += values(w, column);
  result.value /= static_cast<double>(values.rows());
  if (resampled.empty()) return result;
  const ResampledMean& mean = resampled[column];
  result.interval_95 = mean.interval_95;
  result.a_better = mean.share_below;
  result.p = std::max(2 * std::min(mean.share_below, 1 - mean.share_below), 1.0 / kBootstrapResamples);
  result.equivalent = mean.interval_90.low > -margin && mean.interval_90.high < margin;
  result.windows_needed = windows_needed(margin, deviation_of(values, column, result.value));
  return result;
}

ModelComparison compare_pair(const EvaluationResult& a, const EvaluationResult& b, double margin) {
  check_comparable(a, b);
  MatrixD values(a.windows, a.reference ? 2 : 1);
  for (std::size_t w = 0; w < a.windows; ++w) {
    values(w, 0) = a.window_nll[w] - b.window_nll[w];
    if (a.reference) values(w, 1) = a.reference->window_kl[w] - b.reference->window_kl[w];
  }
  const std::vector<ResampledMean> resampled = bootstrap_means(values);
  ModelComparison result;
  result.loss = difference_of(values, 0, resampled, margin);
  if (a.reference) result.kl = difference_of(values, 1, resampled, margin);
  return result;
}

/// Losses and divergences are a family of hypotheses each.
void adjust(std::vector<ModelComparison>& pairs, const std::function<PairedDifference*(ModelComparison&)>& of) {
  std::vector<PairedDifference*> family;
  std::vector<double> p;
  for (ModelComparison& pair : pairs)
    if (PairedDifference* const difference = of(pair); difference != nullptr && difference->p) {
      family.push_back(difference);
      p.push_back(*difference->p);
    }
  const std::vector<double> adjusted = holm_adjusted(p);
  for (std::size_t i = 0; i < family.size(); ++i) family[i]->p_holm = adjusted[i];
}

Json optional_json(const std::optional<double>& value) { return value ? Json(*value) : Json(nullptr); }

Json to_json(const PairedDifference& difference) {
  return {{"difference", difference.value},
          {"interval_95", adze::to_json(difference.interval_95)},
          {"a_better", optional_json(difference.a_better)},
          {"p", optional_json(difference.p)},
          {"p_holm", optional_json(difference.p_holm)},
          {"equivalent", difference.equivalent},
          {"windows_needed", difference.windows_needed}};
}

}  // namespace

double windows_needed(double effect, double deviation) {
  assert(effect > 0);
  constexpr double kBothQuantiles = 1.96 + 0.84;
  const double ratio = kBothQuantiles * deviation / effect;
  return std::ceil(ratio * ratio);
}

std::vector<double> holm_adjusted(std::span<const double> p) {
  std::vector<std::size_t> order(p.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, {}, [&](std::size_t i) { return p[i]; });
  std::vector<double> adjusted(p.size());
  double least = 0;
  for (std::size_t rank = 0; rank < order.size(); ++rank) {
    least = std::max(least, std::min(1.0, p[order[rank]] * static_cast<double>(order.size() - rank)));
    adjusted[order[rank]] = least;
  }
  return adjusted;
}

std::vector<ModelComparison> compare_models(std::span<const EvaluationResult> models, double margin) {
  std::vector<ModelComparison> pairs;
  for (std::size_t a = 0; a < models.size(); ++a)
    for (std::size_t b = a + 1; b < models.size(); ++b) {
      pairs.push_back(compare_pair(models[a], models[b], margin));
      pairs.back().a = a;
      pairs.back().b = b;
    }
  adjust(pairs, [](ModelComparison& pair) { return &pair.loss; });
  adjust(pairs, [](ModelComparison& pair) { return pair.kl ? &*pair.kl : nullptr; });
  return pairs;
}

nlohmann::ordered_json to_json(const ModelComparison& comparison, std::span<const std::string> names) {
  Json json{{"a", names[comparison.a]}, {"b", names[comparison.b]}, {"loss", to_json(comparison.loss)}};
  if (comparison.kl) json["kl"] = to_json(*comparison.kl);
  return json;
}

}  // namespace adze
