#include "report/chart/interval_chart.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "report/numbers.h"

namespace adze {
namespace {

constexpr double kRowHeight = 24, kRight = 20;

bool has_interval(const IntervalRow& row) { return std::isfinite(row.low) && std::isfinite(row.high); }

AxisRange range_of(const IntervalChart& chart) {
  AxisRange range(chart.axis.kind);
  for (const IntervalRow& row : chart.rows)
    for (const double value : {row.estimate, row.low, row.high}) range.add(value);
  if (chart.reference && !range.empty()) range.add(chart.reference->value);
  return range;
}

/// True when the reference lies outside: the difference is more than noise.
bool is_distinct(const IntervalChart& chart, const IntervalRow& row) {
  if (!chart.reference || !has_interval(row)) return false;
  return row.low > chart.reference->value || row.high < chart.reference->value;
}

std::string tooltip(const IntervalRow& row) {
  std::string text = fmt::format("{}: {}", row.name, short_number(row.estimate));
  if (has_interval(row)) text += fmt::format(" ({} to {})", short_number(row.low), short_number(row.high));
  return row.note.empty() ? text : text + "\n" + row.note;
}

void draw_row(Canvas& canvas, const IntervalChart& chart, const IntervalRow& row, const Scale& scale, double y) {
  constexpr double kCap = 4;
  const std::string text = tooltip(row);
  if (has_interval(row) && scale.can_show(row.low) && scale.can_show(row.high)) {
    const double low = scale.place(row.low), high = scale.place(row.high);
    canvas.line({low, y}, {high, y}, {"l0"});
    for (const double end : {low, high}) canvas.line({end, y - kCap}, {end, y + kCap}, {"l0"});
    canvas.rect({low, y - kRowHeight / 2, std::max(high, low + 1), y + kRowHeight / 2}, {"hit", text});
  }
  if (!scale.can_show(row.estimate)) return;
  const bool filled = !chart.reference || is_distinct(chart, row);
  canvas.mark({scale.place(row.estimate), y}, 0, 4.5, {filled ? "f0" : "hollow l0", text});
}

std::vector<LegendEntry> legend_of(const IntervalChart& chart) {
  if (!chart.reference) return {};
  return {{"interval excludes " + chart.reference->name, 0, LegendMark::filled},
          {"interval holds it, or is not known", 0, LegendMark::hollow},
          {chart.reference->name, 0, LegendMark::dashed}};
}

}  // namespace

Picture IntervalChart::picture() const {
  Canvas canvas;
  std::vector<std::string> row_names;
  for (const IntervalRow& row : rows) row_names.push_back(row.name);
  const RowNames names(row_names, kRowHeight);
  const double top = draw_legend(canvas, legend_of(*this), {0, 0}, kChartWidth) + 2;
  const Box panel{names.width(), top, kChartWidth - kRight, top + std::max(names.height(), kRowHeight)};
  const AxisRange range = range_of(*this);
  const Scale scale(range, panel.left, panel.right);
  draw_x_axis(canvas, scale, panel, axis.title);
  if (range.empty()) draw_nothing(canvas, panel);
  names.draw(canvas, panel.top);
  if (reference && scale.can_show(reference->value) && !range.empty()) {
    const double x = scale.place(reference->value);
    canvas.line({x, panel.top}, {x, panel.bottom}, {"reference"});
  }
  for (std::size_t r = 0; r < rows.size(); ++r) draw_row(canvas, *this, rows[r], scale, names.middle(r, panel.top));
  return std::move(canvas).picture(title, kChartWidth, panel.bottom + kXAxisHeight);
}

Table IntervalChart::table() const {
  const bool notes = std::ranges::any_of(rows, [](const IntervalRow& row) { return !row.note.empty(); });
  std::vector<Column> columns{
      {category, Align::left}, {axis.title.empty() ? "estimate" : axis.title}, {"low"}, {"high"}};
  if (notes) columns.push_back({"note", Align::left});
  Table table(columns);
  for (const IntervalRow& row : rows) {
    std::vector<std::string> cells{row.name, data_number(row.estimate), data_number(row.low), data_number(row.high)};
    if (notes) cells.push_back(row.note);
    table.add_row(std::move(cells));
  }
  return table;
}

}  // namespace adze
