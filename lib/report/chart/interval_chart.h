// Estimates with their intervals, one row each (a forest plot). Where there is a reference, an interval that excludes
// it has a filled mark, one that holds it a hollow one.
#pragma once

#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "report/chart/axis.h"
#include "report/chart/frame.h"
#include "report/table.h"

namespace adze {

struct IntervalRow {
  std::string name;
  double estimate = 0;
  double low = std::numeric_limits<double>::quiet_NaN();  ///< no interval: not known
  double high = std::numeric_limits<double>::quiet_NaN();
  std::string note = {};  ///< shown with the tooltip and in the table
};

struct IntervalChart {
  std::string title;
  std::string category;  ///< what a row is
  Axis axis;
  std::vector<IntervalRow> rows;
  std::optional<ReferenceLine> reference = {};

  Picture picture() const;
  /// category, estimate, low, high, and notes where there are some.
  Table table() const;
};

}  // namespace adze
