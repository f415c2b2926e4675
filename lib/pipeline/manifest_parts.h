// What every manifest and report has, whichever program wrote it: the model, what is stored, losses per tensor, hashes.
#pragma once

#include <nlohmann/json.hpp>

#include "pipeline/compress.h"

namespace adze {

nlohmann::ordered_json model_json(const OpenedModel& model, const CompressionPlan& plan);

/// Adds "stored", "tensors" with their losses and "files" with their hashes: the same bytes every time.
void add_results(const CompressionPlan& plan, const CompressResult& result, nlohmann::ordered_json& json);

/// Adds what may differ from run to run: "seconds" and those of phases, threads, kernels, memory as predicted and as
/// measured, "tensors" with seconds; and the plan's warnings.
void add_timings(const CompressionPlan& plan, const CompressResult& result, nlohmann::ordered_json& json);

}  // namespace adze
