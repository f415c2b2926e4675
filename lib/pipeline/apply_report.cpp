#include "pipeline/apply_report.h"

#include "linalg/convert.h"
#include "pipeline/manifest_parts.h"

namespace adze {
namespace {

using Json = nlohmann::ordered_json;

/// Of a single scheme its format and solver, too; a recipe of several has them per tensor.
Json scheme_json(const PreparedScheme& scheme) {
  Json json{{"options", scheme.run.recipe->source->text()}};
  if (scheme.run.plan.schemes.size() > 1) return json;
  std::string format;  // of the first matrix: the others' may differ in rank
  for (const ModulePlan& module : scheme.run.plan.modules)
    if (module.scheme && format.empty()) format = module.format;
  json["format"] = format;
  json["solver"] = scheme.run.plan.schemes.front().solver->description();
  return json;
}

Json calibration_json(const PreparedScheme& scheme) {
  if (!scheme.statistics) return {{"windows", 0}, {"hash", "none"}};
  const StatisticsInfo& info = scheme.statistics->info();
  return {{"windows", info.windows},
          {"total_tokens", info.tokens},
          {"hash", info.calibration},
          {"statistics_of", info.model},
          {"statistics_kernels", info.kernels}};
}

}  // namespace

std::string scheme_manifest_text(const PreparedScheme& scheme, const CompressResult& result) {
  Json json;
  json["adze"] = 1;
  json["version"] = ADZE_VERSION;
  json["recipe"] = {{"hash", scheme.run.recipe->text_hash}};
  json["scheme"] = scheme_json(scheme);
  json["model"] = model_json(*scheme.run.model, scheme.run.plan);
  json["calibration"] = calibration_json(scheme);
  json["remark"] = scheme.remark;
  json["kernels"] = kernel_name();
  add_results(scheme.run.plan, result, json);
  return json.dump(1) + "\n";
}

std::string scheme_report_text(const PreparedScheme& scheme, const CompressResult& result) {
  Json json;
  json["remark"] = scheme.remark;
  add_timings(scheme.run.plan, result, json);
  return json.dump(1) + "\n";
}

std::vector<Fact> scheme_inputs(const PreparedScheme& scheme) {
  std::vector<Fact> facts{{"inputs", scheme.remark}};
  if (!scheme.statistics) return facts;
  const StatisticsInfo& info = scheme.statistics->info();
  facts.push_back({"statistics", fmt::format("of {}: {} windows, {} tokens", info.model, info.windows, info.tokens)});
  facts.push_back({"hash of the windows", info.calibration});
  return facts;
}

}  // namespace adze
