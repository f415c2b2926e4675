// What adze compare found out about calibration sets of a model, as its compare.json says: matrices of who is
// calibrated on what and judged by whom, for the page of a run with the same model. Nothing is computed anew, and
// nothing but the page depends on it.
//
// The file is foreign: names, sizes and numbers are checked. Refuses studies of another model.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "pipeline/compress.h"
#include "report/page.h"

namespace adze {

/// One matrix of a study, means over its draws.
struct StudyMatrix {
  std::string title, value;  ///< of the picture; what a cell is, with its unit
  std::string caption;
  std::vector<std::string> sources, judges;  ///< names of sets, and of sets or texts
  std::vector<double> values;                ///< [sources x judges]
};

/// One draw of a set.
struct StudyDraw {
  std::string set;
  std::size_t number = 0;
  std::string hash;  ///< of its windows
};

struct CalibrationStudy {
  std::string identity;  ///< of the model
  std::string recipe;    ///< hash of the recipe that layers and models were compressed with; empty: none were
  std::size_t windows = 0, tokens = 0, draws = 0;  ///< of a set: draws of so many windows of so many tokens
  std::vector<StudyDraw> all_draws;                ///< none of sets that were given as statistics
  std::vector<StudyMatrix> matrices;               ///< the nearer to whole models the earlier
  std::vector<std::string> findings;
};

/// `text`: of compare.json; `origin`, its name, leads messages. Throws bad_data.
CalibrationStudy parse_study(std::string_view text, const std::string& origin);
/// path: compare.json, or the folder that it lies in. Throws as parse_study, missing_input, and usage unless the study
/// is of that model.
CalibrationStudy load_study(const std::filesystem::path& path, const OpenedModel& model);

/// A section with the study's findings and matrices, and with what the run's own calibration has to do with them.
void add_study(const CalibrationStudy& study, const PreparedRun& run, Page& page);

}  // namespace adze
