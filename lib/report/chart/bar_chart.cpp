#include "report/chart/bar_chart.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "report/chart/palette.h"
#include "report/numbers.h"

namespace adze {
namespace {

constexpr double kBar = 16, kGap = 10;  // heights
constexpr double kNumberWidth = 64;     // right of the longest bar

std::vector<std::string> names_of(const BarChart& chart) {
  std::vector<std::string> names;
  for (const BarRow& row : chart.rows) names.push_back(row.name);
  return names;
}

double stacked_sum(const BarRow& row) {
  double sum = 0;
  for (const double value : row.values)
    if (std::isfinite(value) && value > 0) sum += value;
  return sum;
}

AxisRange range_of(const BarChart& chart) {
  AxisRange range(AxisKind::linear);
  range.add(0);
  for (const BarRow& row : chart.rows) {
    if (chart.style == BarStyle::stacked) range.add(stacked_sum(row));
    if (chart.style == BarStyle::grouped)
      for (const double value : row.values) range.add(value);
  }
  return range;
}

class Drawing {
 public:
  Drawing(const BarChart& chart, const Scale& scale, const RowNames& names, const Box& panel, Canvas& canvas)
      : chart_(chart), scale_(scale), names_(names), panel_(panel), canvas_(canvas) {}

  void draw_row(std::size_t r) {
    if (chart_.style == BarStyle::stacked)
      draw_stack(chart_.rows[r], names_.middle(r, panel_.top));
    else
      draw_group(chart_.rows[r], names_.middle(r, panel_.top));
  }

 private:
  void bar(const BarRow& row, std::size_t series, double from, double to, double top) {
    const double left = scale_.place(std::min(from, to)), right = scale_.place(std::max(from, to));
    const std::string name = series < chart_.series.size() ? chart_.series[series] : "";
    canvas_.rect({left, top, std::max(right, left + 0.5), top + kBar},
                 {fmt::format("f{}", series % kSeriesColours),
                  fmt::format("{}{}{}: {}", row.name, name.empty() ? "" : ", ", name, short_number(to - from))});
  }

  void number(double at, double value, double top) {
    canvas_.text({scale_.place(at) + 6, top + kBar - 4}, Anchor::start, short_number(value), {"small"});
  }

  void draw_group(const BarRow& row, double middle) {
    double top = middle - kBar * static_cast<double>(row.values.size()) / 2;
    for (std::size_t s = 0; s < row.values.size(); ++s, top += kBar) {
      const double value = row.values[s];
      if (std::isfinite(value)) bar(row, s, 0, value, top + 0.5);
      number(std::isfinite(value) ? std::max(value, 0.0) : 0, value, top);
    }
  }

  void draw_stack(const BarRow& row, double middle) {
    double sum = 0;
    for (std::size_t s = 0; s < row.values.size(); ++s) {
      if (!std::isfinite(row.values[s]) || row.values[s] <= 0) continue;
      bar(row, s, sum, sum + row.values[s], middle - kBar / 2);
      sum += row.values[s];
    }
    number(sum, sum, middle - kBar / 2);
  }

  const BarChart& chart_;
  const Scale& scale_;
  const RowNames& names_;
  const Box& panel_;
  Canvas& canvas_;
};

}  // namespace

Picture BarChart::picture() const {
  Canvas canvas;
  std::vector<LegendEntry> legend;
  if (series.size() > 1)
    for (std::size_t s = 0; s < series.size(); ++s) legend.push_back({series[s], s, LegendMark::bar});
  const std::vector<std::string> row_names = names_of(*this);
  const std::size_t bars = style == BarStyle::stacked ? 1 : std::max<std::size_t>(1, series.size());
  const RowNames names(row_names, kBar * static_cast<double>(bars) + kGap);
  const double top = draw_legend(canvas, legend, {0, 0}, kChartWidth) + 2;
  const Box panel{names.width(), top, kChartWidth - kNumberWidth, top + std::max(names.height(), 2 * kBar)};
  const Scale scale(range_of(*this), panel.left, panel.right, 0);
  draw_x_axis(canvas, scale, panel, value);
  canvas.line({scale.place(0), panel.top}, {scale.place(0), panel.bottom}, {"axis"});
  if (rows.empty()) draw_nothing(canvas, panel);
  names.draw(canvas, panel.top);
  Drawing drawing(*this, scale, names, panel, canvas);
  for (std::size_t r = 0; r < rows.size(); ++r) drawing.draw_row(r);
  return std::move(canvas).picture(title, kChartWidth, panel.bottom + kXAxisHeight);
}

Table BarChart::table() const {
  std::vector<Column> columns{{category, Align::left}};
  for (const std::string& name : series) columns.push_back({name.empty() ? value : name});
  Table table(columns);
  for (const BarRow& row : rows) {
    std::vector<std::string> cells{row.name};
    for (const double one : row.values) cells.push_back(data_number(one));
    table.add_row(std::move(cells));
  }
  return table;
}

}  // namespace adze
