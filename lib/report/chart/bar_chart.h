// Bars to the right, one row per category: side by side for each series, or stacked. Bars begin at 0.
#pragma once

#include <string>
#include <vector>

#include "report/chart/frame.h"
#include "report/table.h"

namespace adze {

enum class BarStyle { grouped, stacked };

struct BarRow {
  std::string name;
  std::vector<double> values;  ///< one per series; no bar for what is no number or, stacked, below 0
};

struct BarChart {
  std::string title;
  std::string category;  ///< what a row is
  std::string value;     ///< what a bar's length is, with its unit
  std::vector<std::string> series;
  std::vector<BarRow> rows;
  BarStyle style = BarStyle::grouped;

  Picture picture() const;
  /// category and a column for each series.
  Table table() const;
};

}  // namespace adze
