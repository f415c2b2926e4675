#include "pipeline/manifest.h"

#include <nlohmann/json.hpp>

#include "base/parallel.h"
#include "linalg/convert.h"

namespace adze {
namespace {

using Json = nlohmann::ordered_json;

Json tensor_json(const TensorRecord& record) {
  Json json{{"module", record.module},
            {"format", record.format},
            {"bytes", record.bytes},
            {"loss", record.report.loss},
            {"relative_loss", record.report.relative_loss},
            {"damping", record.report.damping},
            {"dead_inputs", record.report.dead_inputs}};
  if (!record.report.fallback.empty()) json["fallback"] = record.report.fallback;
  return json;
}

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
  json["model"] = {{"name", run.model->name},
                   {"family", run.model->architecture().family},
                   {"bytes", run.plan.original_bytes},
                   {"weights", run.plan.weights}};
  json["calibration"] = {{"windows", run.windows.count()}, {"tokens", run.windows.tokens}, {"hash", run.windows.hash()}};
  json["kernels"] = kernel_name();
  json["stored"] = {{"bytes", run.plan.stored_bytes}, {"bits_per_weight", run.plan.bits_per_weight()}};
  for (const TensorRecord& record : result.tensors) json["tensors"].push_back(tensor_json(record));
  for (const LedgerFile& file : result.files)
    json["files"].push_back({{"path", file.path}, {"bytes", file.bytes}, {"xxh3", file.hash}});
  if (result.evaluation) json["evaluation"] = evaluation_json(*result.evaluation, run.plan);
  return json.dump(1) + "\n";
}

std::string report_text(const PreparedRun& run, const CompressResult& result) {
  Json json;
  json["seconds"] = result.seconds;
  json["resumed_steps"] = result.resumed_steps;
  json["threads"] = thread_count();
  json["kernels"] = kernel_name();
  json["predicted_peak_memory"] = run.plan.peak_memory;
  for (const TensorRecord& record : result.tensors) {
    Json tensor = tensor_json(record);
    tensor["seconds"] = record.seconds;
    json["tensors"].push_back(tensor);
  }
  if (result.evaluation) json["evaluation"] = evaluation_json(*result.evaluation, run.plan);
  return json.dump(1) + "\n";
}

}  // namespace adze
