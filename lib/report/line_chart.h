// Pictures of curves as SVG: lines and points over a linear abscissa and a logarithmic ordinate. The same input gives
// the same bytes.
#pragma once

#include <string>
#include <vector>

namespace adze {

struct ChartPoint {
  double x = 0, y = 0;     ///< y above 0; others are left out
  std::string label = {};  ///< shown when it is pointed at
};

struct ChartSeries {
  std::string name;
  std::vector<ChartPoint> points;
  bool line = true;  ///< else points alone
};

struct LineChart {
  std::string title, x_title, y_title;
  std::vector<ChartSeries> series;

  /// A whole file. Throws bad_data when no point can be shown.
  std::string svg() const;
};

}  // namespace adze
