// What charts share: the frame with its axes, the legend, rows with names at their left.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "report/chart/axis.h"
#include "report/chart/picture.h"

namespace adze {

inline constexpr double kChartWidth = 760;

/// A line across the panel at a value of an axis.
struct ReferenceLine {
  double value = 0;
  std::string name;
};

enum class LegendMark { line, dashed, filled, hollow, bar };

struct LegendEntry {
  std::string name;
  std::size_t series = 0;  ///< colour and shape
  LegendMark mark = LegendMark::filled;
};

/// Draws entries from the left in as many lines as they need; returns the height that they take, 0 for none.
double draw_legend(Canvas& canvas, const std::vector<LegendEntry>& entries, Point at, double width);

/// Grid lines across `panel`, numbers below it, the title below those. Takes kXAxisHeight below the panel.
void draw_x_axis(Canvas& canvas, const Scale& scale, const Box& panel, const std::string& title);
inline constexpr double kXAxisHeight = 44;

/// Grid lines across `panel`, numbers and the title at its left.
void draw_y_axis(Canvas& canvas, const Scale& scale, const Box& panel, const std::string& title);
/// Pixels that draw_y_axis takes at the left.
double y_axis_width(const Scale& scale, const std::string& title);

/// Said in the middle of a panel that has nothing to show.
void draw_nothing(Canvas& canvas, const Box& panel);

/// Names of rows at the left of a panel: one place for charts whose categories go downwards.
class RowNames {
 public:
  RowNames(const std::vector<std::string>& names, double row_height);

  /// Where the panel begins.
  double width() const { return width_; }
  double height() const { return row_height_ * static_cast<double>(names_.size()); }
  double row_height() const { return row_height_; }
  /// The middle of a row of a panel that begins at `top`.
  double middle(std::size_t row, double top) const { return top + (static_cast<double>(row) + 0.5) * row_height_; }
  /// Those that have room; long ones are cut and show whole when they are pointed at.
  void draw(Canvas& canvas, double top) const;

 private:
  const std::vector<std::string>& names_;
  double row_height_, width_;
};

}  // namespace adze
