#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "evaluate/result.h"

namespace adze {
namespace {

using Json = nlohmann::ordered_json;

template <typename T>
nlohmann::json optional_json(const std::optional<T>& value) {
  return value ? nlohmann::json(*value) : nlohmann::json(nullptr);
}

nlohmann::json interval_json(const std::optional<Interval>& interval) {
  if (!interval) return nullptr;
  return nlohmann::json::array({interval->low, interval->high});
}

void put_reference(const ReferenceResult& reference, nlohmann::json& json) {
  json["perplexity_base"] = reference.perplexity_base;
  json["perplexity_base_se"] = reference.perplexity_base_se;
  json["ln_ppl_ratio"] = reference.ln_ppl_ratio;
  json["ln_ppl_ratio_se"] = reference.ln_ppl_ratio_se;
  json["ln_ppl_ratio_95"] = interval_json(reference.ln_ppl_ratio_95);
  json["kl_mean"] = reference.kl_mean;
  json["kl_mean_se"] = reference.kl_mean_se;
  json["kl_mean_95"] = interval_json(reference.kl_mean_95);
  json["kl_median"] = reference.kl_median;
  json["kl_median_se"] = optional_json(reference.kl_median_se);
  json["kl_99"] = reference.kl_99;
  json["kl_999"] = reference.kl_999;
  json["kl_999_se"] = optional_json(reference.kl_999_se);
  json["kl_max"] = reference.kl_max;
  json["same_top"] = reference.same_top;
  json["same_top_se"] = reference.same_top_se;
  json["mean_dp"] = reference.mean_dp;
  json["rms_dp"] = reference.rms_dp;
  json["rms_dp_se"] = reference.rms_dp_se;
}

Json to_json(const Estimate& estimate) {
  return {{"value", estimate.value}, {"se_iid", estimate.se}, {"interval_95", adze::to_json(estimate.interval_95)}};
}

/// "99.9": of 0.999.
std::string percent_name(double fraction) { return fmt::format("{:.4g}", 100 * fraction); }

Json to_json(const std::vector<PercentileValue>& values) {
  Json json = Json::object();
  for (const PercentileValue& value : values) json[percent_name(value.fraction)] = value.value;
  return json;
}

Json to_json(const DesignEffect& design) {
  return {{"design_effect", design.effect}, {"effective_tokens", design.effective_tokens}};
}

Json to_json(const std::vector<TailCount>& tails, std::size_t tokens) {
  Json json = Json::array();
  for (const TailCount& tail : tails)
    json.push_back({{"nats", tail.nats},
                    {"tokens", tail.tokens},
                    {"share", static_cast<double>(tail.tokens) / static_cast<double>(tokens)},
                    {"share_95", adze::to_json(std::optional(tail.share_95))}});
  return json;
}

Json to_json(const RankResult& ranks, bool with_reference) {
  Json json{{"windows", ranks.windows}, {"erank_hidden", to_json(ranks.of_model)}};
  if (!with_reference) return json;
  json["erank_hidden_base"] = to_json(ranks.of_reference);
  json["difference"] = to_json(ranks.difference);
  return json;
}

}  // namespace

nlohmann::ordered_json to_json(const std::optional<Interval>& interval) {
  if (!interval) return nullptr;
  return Json::array({interval->low, interval->high});
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

nlohmann::ordered_json statistics_json(const EvaluationResult& result) {
  Json json = Json::object();
  for (const StatisticInfo& info : statistics())
    if (result.reference || info.of_model_alone)
      json["means"][std::string(info.name)] = to_json(result.means[info.statistic]);
  json["calibration_error"] = {{"bins", Reliability{}.size()}, {"model", result.calibration.of_model}};
  if (result.reference) json["calibration_error"]["reference"] = result.calibration.of_reference;
  if (result.ranks) json["effective_rank"] = to_json(*result.ranks, result.reference.has_value());
  json["bootstrap"] = {{"resamples", kBootstrapResamples}, {"seed", kBootstrapSeed}};
  if (!result.reference) return json;
  const ReferenceResult& r = *result.reference;
  json["ppl_ratio"] = to_json(r.ppl_ratio);
  json["ppl_difference"] = to_json(r.ppl_difference);
  json["rms_dp"] = to_json(r.rms_dp_estimate);
  json["nll_correlation"] = r.nll_correlation;
  json["kl_percentiles"] = to_json(r.kl_percentiles);
  json["kl_above"] = to_json(r.kl_above, result.tokens);
  json["kl_floor"] = 0;  // both models see the same tokens in one process: equal models are at no distance at all
  json["dp_percentiles"] = to_json(r.dp_percentiles);
  json["dp_tail_ratio"] = r.dp_tail_ratio;
  json["overlap_1"] = r.overlap_1;
  json["kl"] = to_json(r.kl_design);
  json["added_loss"] = to_json(r.loss_design);
  json["kl_in_words"] = kl_in_words(r.kl_mean);
  return json;
}

}  // namespace adze
