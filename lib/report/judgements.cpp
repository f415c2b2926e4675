#include "report/judgements.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace adze {
namespace {

using Json = nlohmann::ordered_json;

Json result_json(const EvaluationResult& result) {
  Json json = Json::object();
  const nlohmann::json flat = to_json(result);
  for (const auto& [key, value] : flat.items()) json[key] = value;
  json["statistics"] = statistics_json(result);
  return json;
}

std::vector<std::string> names_of(const Judgements& judged) {
  std::vector<std::string> names;
  for (const JudgedModel& model : judged.models) names.push_back(model.name);
  return names;
}

Json model_json(const Judgements& judged, std::size_t place, const Tokenizer& tokenizer) {
  const JudgedModel& model = judged.models[place];
  Json json{{"model", model.name}, {"bytes", model.bytes}, {"bits_per_weight", model.bits_per_weight}};
  json.update(result_json(model.result));
  json["activations"] = name_of(judged.activations);
  for (const DomainResult& domain : model.domains) json["domains"][domain.name] = result_json(domain.result);
  if (const auto worst = worst_domain(model.domains)) {
    json["worst_domain"] = model.domains[*worst].name;
    json["domain_disparity"] = *domain_disparity(model.domains);
  }
  if (model.result.reference && model.result.reference->audit)
    json["audit"] = to_json(*model.result.reference->audit, judged.domains, tokenizer);
  for (const ModelComparison& pair : judged.comparisons)
    if (pair.a == place) json["comparisons"].push_back(to_json(pair, names_of(judged)));
  if (place > 0) return json;
  if (judged.population) json["population"] = to_json(*judged.population, judged.domains, tokenizer);
  if (judged.bos)
    json["bos"] = {{"perplexity_each", judged.bos->perplexity_each},
                   {"perplexity_first", judged.bos->perplexity_first}};
  return json;
}

std::string headline(const Judgements& judged) {
  const EvaluationResult& first = judged.models.front().result;
  return fmt::format(
      "{}, protocol {}{}: {} windows, {} tokens scored\n\n", judged.texts, first.protocol,
      judged.activations == Activations::exact ? "" : fmt::format(", activations {}", name_of(judged.activations)),
      first.windows, first.tokens);
}

std::string audits_text(const Judgements& judged, const Tokenizer& tokenizer) {
  std::string text;
  for (const JudgedModel& model : judged.models)
    if (model.result.reference && model.result.reference->audit)
      text += fmt::format("\n{}: what it changed most (single-model disagreement)\n{}", model.name,
                          audit_table(*model.result.reference->audit, judged.domains, tokenizer));
  if (judged.population) text += "\n" + population_table(*judged.population, judged.domains, tokenizer);
  return text;
}

}  // namespace

nlohmann::ordered_json judgements_json(const Judgements& judged, const Tokenizer& tokenizer) {
  Json json = Json::array();
  for (std::size_t m = 0; m < judged.models.size(); ++m) json.push_back(model_json(judged, m, tokenizer));
  return json.size() == 1 ? json[0] : json;
}

std::string judgements_text(const Judgements& judged, const Tokenizer& tokenizer, const JudgementTables& tables) {
  std::string text = headline(judged) + judgement_table(judged.models);
  if (judged.domains.size() > 1)
    text += fmt::format(
        "\n{} by domain\n{}",
        judged.models.front().result.reference ? "mean KL [95 %]; * stands apart from the mean of all," : "perplexity",
        domain_table(judged.models));
  if (!judged.comparisons.empty()) text += "\n" + comparison_table(judged.comparisons, names_of(judged));
  if (tables.statistics) text += "\n" + statistics_table(judged.models);
  if (judged.bos)
    text += fmt::format("\nBOS in every window: perplexity {:.4f}; before the text only: {:.4f}\n",
                        judged.bos->perplexity_each, judged.bos->perplexity_first);
  return tables.audit ? text + audits_text(judged, tokenizer) : text;
}

}  // namespace adze
