// What adze quantize and adze prune leave beside the store: manifest.json and report.json, in the shape of adze
// compress's (pipeline/manifest.h). Where a run has the hash of its recipe, this has the hash of the scheme's options;
// where it has windows, those that the statistics are of.
#pragma once

#include <string>

#include "pipeline/apply_scheme.h"
#include "pipeline/run_page.h"

namespace adze {

/// The same bytes every time.
std::string scheme_manifest_text(const PreparedScheme& scheme, const CompressResult& result);

/// With timings and threads.
std::string scheme_report_text(const PreparedScheme& scheme, const CompressResult& result);

/// The statistics that the losses are of, as facts for run_page().
std::vector<Fact> scheme_inputs(const PreparedScheme& scheme);

}  // namespace adze
