#include "report/chart/strip_chart.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "report/chart/palette.h"
#include "report/numbers.h"

namespace adze {
namespace {

constexpr double kStrip = 22, kGap = 8, kRight = 20;
constexpr double kDot = 3.2;

AxisRange range_of(const StripChart& chart) {
  AxisRange range(chart.axis.kind);
  for (const StripRow& row : chart.rows)
    for (const auto& values : row.values)
      for (const double value : values) range.add(value);
  if (!range.empty())
    for (const ReferenceLine& reference : chart.references) range.add(reference.value);
  return range;
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  const std::size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

/// One strip: dots that would lie on each other step aside, above and below in turn.
void draw_strip(Canvas& canvas, const std::vector<double>& all, const Scale& scale, double y, std::size_t series,
                const std::string& name) {
  std::vector<double> values;
  for (const double value : all)
    if (scale.can_show(value)) values.push_back(value);
  if (values.empty()) return;
  std::ranges::sort(values);
  const std::string css = fmt::format("f{}", series % kSeriesColours);
  double last = -1e9;
  int crowd = 0;
  for (const double value : values) {
    const double x = scale.place(value);
    crowd = x - last < 1.6 * kDot ? crowd + 1 : 0;
    last = x;
    const int level = (crowd + 1) / 2 % 3;  // 0 1 1 2 2 0 ...
    const double aside = (crowd % 2 == 0 ? -1 : 1) * level * 1.1 * kDot;
    canvas.mark({x, y + aside}, series, kDot, {css, fmt::format("{}: {}", name, short_number(value))});
  }
  const double x = scale.place(median(values));
  canvas.line(
      {x, y - kStrip / 2 + 1}, {x, y + kStrip / 2 - 1},
      {fmt::format("l{}", series % kSeriesColours), fmt::format("{}: median {}", name, short_number(median(values)))});
}

std::vector<LegendEntry> legend_of(const StripChart& chart) {
  std::vector<LegendEntry> legend;
  for (std::size_t s = 0; s < chart.series.size(); ++s) legend.push_back({chart.series[s], s, LegendMark::filled});
  for (const ReferenceLine& reference : chart.references) legend.push_back({reference.name, 0, LegendMark::dashed});
  return legend;
}

}  // namespace

Picture StripChart::picture() const {
  Canvas canvas;
  std::vector<std::string> row_names;
  for (const StripRow& row : rows) row_names.push_back(row.name);
  const RowNames names(row_names, kStrip * static_cast<double>(std::max<std::size_t>(1, series.size())) + kGap);
  const double top = draw_legend(canvas, legend_of(*this), {0, 0}, kChartWidth) + 2;
  const Box panel{names.width(), top, kChartWidth - kRight, top + std::max(names.height(), 2 * kStrip)};
  const AxisRange range = range_of(*this);
  const Scale scale(range, panel.left, panel.right);
  draw_x_axis(canvas, scale, panel, axis.title);
  if (range.empty()) draw_nothing(canvas, panel);
  names.draw(canvas, panel.top);
  for (const ReferenceLine& reference : references)
    if (scale.can_show(reference.value) && !range.empty())
      canvas.line({scale.place(reference.value), panel.top}, {scale.place(reference.value), panel.bottom},
                  {"reference", fmt::format("{}: {}", reference.name, short_number(reference.value))});
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const double first = names.middle(r, panel.top) - kStrip * (static_cast<double>(rows[r].values.size()) - 1) / 2;
    for (std::size_t s = 0; s < rows[r].values.size(); ++s)
      draw_strip(canvas, rows[r].values[s], scale, first + kStrip * static_cast<double>(s), s,
                 s < series.size() ? rows[r].name + ", " + series[s] : rows[r].name);
    if (r > 0) {
      const double y = names.middle(r, panel.top) - names.row_height() / 2;
      canvas.line({panel.left, y}, {panel.right, y}, {"grid"});
    }
  }
  return std::move(canvas).picture(title, kChartWidth, panel.bottom + kXAxisHeight);
}

Table StripChart::table() const {
  Table table({{category, Align::left}, {"series", Align::left}, {axis.title.empty() ? "value" : axis.title}});
  for (const StripRow& row : rows)
    for (std::size_t s = 0; s < row.values.size(); ++s)
      for (const double value : row.values[s])
        table.add_row({row.name, s < series.size() ? series[s] : "", data_number(value)});
  return table;
}

}  // namespace adze
