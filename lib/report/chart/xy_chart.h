// Curves and points over two axes: lines with ribbons, points with whiskers and names, survival curves (both axes
// logarithmic), fans and bump charts (lines), sizes against losses (points, their front, the choice).
#pragma once

#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "report/chart/axis.h"
#include "report/chart/frame.h"
#include "report/table.h"

namespace adze {

struct ChartPoint {
  double x = 0, y = 0;     ///< left out where the axis cannot show it; a line is interrupted there
  std::string label = {};  ///< what the point is
  double low = std::numeric_limits<double>::quiet_NaN();  ///< of an interval around y: a line's ribbon, or whiskers
  double high = std::numeric_limits<double>::quiet_NaN();
};

enum class SeriesStyle {
  line,
  points,
  named_points,  ///< with their labels beside them, as far as there is room
  chosen,        ///< ringed
};

struct ChartSeries {
  std::string name;
  std::vector<ChartPoint> points;
  SeriesStyle style = SeriesStyle::line;
  /// Of another series, counted from 0, whose colour and marks these are; nothing: its own.
  std::optional<std::size_t> looks_like = {};
};

struct XyChart {
  std::string title;
  Axis x, y;
  std::vector<ChartSeries> series;
  std::vector<ReferenceLine> references = {};  ///< of y

  Picture picture() const;
  /// series, x, y, and low, high, label where there are some.
  Table table() const;
};

/// The points that no other one beats in both: least y up to each x, by x.
std::vector<ChartPoint> front_of(std::vector<ChartPoint> points);

}  // namespace adze
