// A matrix as shades: amounts along one palette, or deviations from a middle to both sides. Few cells have their
// numbers written in them.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "report/chart/axis.h"
#include "report/chart/palette.h"
#include "report/chart/picture.h"
#include "report/table.h"

namespace adze {

struct HeatMap {
  std::string title;
  std::string row, column;  ///< what rows and columns are
  std::string value;        ///< what a cell is, with its unit
  std::vector<std::string> rows, columns;
  /// [rows x columns], row after row; NaN: there is no such cell. What a logarithm cannot show is drawn empty.
  std::vector<double> values;
  Palette palette = Palette::sequential;
  AxisKind kind = AxisKind::linear;  ///< of amounts; deviations are linear
  double middle = 0;                 ///< of deviations
  bool marks_diagonal = false;       ///< frames cells of row i and column i
  std::optional<double> noise = {};  ///< deviations of no more than this are drawn faintly

  double at(std::size_t r, std::size_t c) const { return values[r * columns.size() + c]; }
  /// Throws internal when the number of values is not rows times columns.
  Picture picture() const;
  /// row, and a column of values for each column; the other way round where that is much narrower.
  Table table() const;
};

}  // namespace adze
