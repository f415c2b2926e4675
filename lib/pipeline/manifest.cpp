#include "pipeline/manifest.h"

#include <nlohmann/json.hpp>

#include "linalg/convert.h"
#include "pipeline/manifest_parts.h"

namespace adze {
namespace {

using Json = nlohmann::ordered_json;

Json evaluation_json(const EvaluationResult& evaluation, const CompressionPlan& plan) {
  Json json = to_json(evaluation);
  json["bytes"] = plan.stored_bytes;
  json["bits_per_weight"] = plan.bits_per_weight();
  return json;
}

}  // namespace

std::string manifest_text(const PreparedRun& run, const CompressResult& result) {
  Json json;
  json["adze"] = 1;
  json["version"] = ADZE_VERSION;
  json["recipe"] = {{"hash", run.recipe->text_hash}};
  json["model"] = model_json(*run.model, run.plan);
  for (const auto& transform : run.plan.transforms) json["transforms"].push_back(in_words(*transform));
  json["calibration"] = {
      {"windows", run.windows.count()}, {"tokens", run.windows.tokens}, {"hash", run.windows.hash()}};
  json["kernels"] = kernel_name();
  add_results(run.plan, result, json);
  if (result.evaluation) json["evaluation"] = evaluation_json(*result.evaluation, run.plan);
  return json.dump(1) + "\n";
}

std::string report_text(const PreparedRun& run, const CompressResult& result) {
  Json json;
  json["resumed_steps"] = result.resumed_steps;
  add_timings(run.plan, result, json);
  if (result.evaluation) json["evaluation"] = evaluation_json(*result.evaluation, run.plan);
  return json.dump(1) + "\n";
}

}  // namespace adze
