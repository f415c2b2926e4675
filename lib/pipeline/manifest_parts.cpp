#include "pipeline/manifest_parts.h"

#include "base/parallel.h"
#include "grid/format.h"
#include "linalg/convert.h"
#include "pipeline/cache_size.h"

namespace adze {
namespace {

using Json = nlohmann::ordered_json;

std::uint64_t multiplications_of(const CompressionPlan& plan, const TensorRecord& record) {
  const std::vector<std::uint64_t>& shape = plan.find(record.module)->spec.shape;
  return format_multiplications(record.format, {shape.at(0), shape.at(1)});
}

Json tensor_json(const CompressionPlan& plan, const TensorRecord& record) {
  Json json{{"module", record.module},
            {"format", record.format},
            {"bytes", record.bytes},
            {"loss", record.report.loss},
            {"relative_loss", record.report.relative_loss},
            {"damping", record.report.damping},
            {"dead_inputs", record.report.dead_inputs},
            {"multiplications", multiplications_of(plan, record)}};
  if (!record.report.fallback.empty()) json["fallback"] = record.report.fallback;
  return json;
}

}  // namespace

Json model_json(const OpenedModel& model, const CompressionPlan& plan) {
  return {{"name", model.name},
          {"family", model.architecture().family},
          {"bytes", plan.original_bytes},
          {"weights", plan.weights}};
}

void add_results(const CompressionPlan& plan, const CompressResult& result, Json& json) {
  json["stored"] = {{"bytes", plan.stored_bytes}, {"bits_per_weight", plan.bits_per_weight()}};
  const CacheSize cache = cache_size(plan);
  json["cache_numbers_per_token"] = {
      {"original", cache.original}, {"plain", cache.plain}, {"with_codes", cache.with_codes}};
  for (const TensorRecord& record : result.tensors) json["tensors"].push_back(tensor_json(plan, record));
  for (const LedgerFile& file : result.files)
    json["files"].push_back({{"path", file.path}, {"bytes", file.bytes}, {"xxh3", file.hash}});
}

void add_timings(const CompressionPlan& plan, const CompressResult& result, Json& json) {
  json["seconds"] = result.seconds;
  for (const PhaseTime& phase : result.phases)
    json["phases"].push_back({{"name", phase.name}, {"seconds", phase.seconds}});
  json["threads"] = thread_count();
  json["kernels"] = kernel_name();
  json["predicted_peak_memory"] = plan.peak_memory;
  json["peak_memory"] = result.peak_memory;
  if (!plan.warnings.empty()) json["warnings"] = plan.warnings;
  for (const TensorRecord& record : result.tensors) {
    Json tensor = tensor_json(plan, record);
    tensor["seconds"] = record.seconds;
    json["tensors"].push_back(tensor);
  }
}

}  // namespace adze
