// What a study says: to read in a terminal, as JSON, and as tables behind pictures (specification evaluation.md, 10.6).
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "compare/study.h"

namespace adze {

/// The findings in order, a sentence or two each: is the noise of drawing visible, does the source matter beyond it,
/// which set, what it costs others, how many windows, which cheap number predicted it.
std::vector<std::string> findings(const PreparedStudy& prepared, const Study& study);

/// Tables of every stage, findings and warnings.
std::string study_text(const PreparedStudy& prepared, const Study& study);

/// Everything, timings aside: the same bytes every time.
nlohmann::ordered_json study_json(const PreparedStudy& prepared, const Study& study);

/// Writes report.html, report.md, compare.json, moments.csv, regret.csv and outcome.csv into the study's folder.
void write_study(const PreparedStudy& prepared, const Study& study);

}  // namespace adze
