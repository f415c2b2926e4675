// Every value as a dot: one row per category, within it one strip per series, with a stroke at its median. For outcomes
// over random draws, where a mean would hide what varies.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "report/chart/axis.h"
#include "report/chart/frame.h"
#include "report/table.h"

namespace adze {

struct StripRow {
  std::string name;
  std::vector<std::vector<double>> values;  ///< of each series, any number of dots
};

struct StripChart {
  std::string title;
  std::string category;  ///< what a row is
  Axis axis;
  std::vector<std::string> series;
  std::vector<StripRow> rows;
  std::vector<ReferenceLine> references = {};

  Picture picture() const;
  /// category, series, value: a row per dot.
  Table table() const;
};

}  // namespace adze
