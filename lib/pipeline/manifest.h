// What a run leaves beside its results: manifest.json, the same bytes every time, and report.json with what may differ
// (timings, this machine); run_page.h makes the latter into a page.
#pragma once

#include "pipeline/compress.h"

namespace adze {

/// Recipe, model, calibration, every tensor with its losses, every file with its hash, and the judgement.
std::string manifest_text(const PreparedRun& run, const CompressResult& result);

/// The same per-tensor table with seconds, and where and how the run was made.
std::string report_text(const PreparedRun& run, const CompressResult& result);

}  // namespace adze
