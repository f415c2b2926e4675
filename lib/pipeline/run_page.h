// What a run looks like afterwards: the page that lies beside its results as report.html and report.md. Built of what
// the run knows at its end; nothing is read and nothing computed again.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "pipeline/compress.h"
#include "report/page.h"

namespace adze {

/// The inputs that losses are measured with, as facts: the calibration windows of a run of adze compress.
std::vector<Fact> inputs_of(const PreparedRun& run);

/// inputs: what is known of them. study: of calibration sets for this model; nullptr: none is shown.
Page run_page(const PreparedRun& run, const CompressResult& result, std::vector<Fact> inputs,
              const CalibrationStudy* study = nullptr);

/// report.json, report.html and report.md (kReportNames in pipeline/work_folder.h).
void write_reports(const std::filesystem::path& folder, const std::string& json, const Page& page);

}  // namespace adze
