#include "report/chart/xy_chart.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "report/chart/palette.h"
#include "report/markup.h"
#include "report/numbers.h"

namespace adze {
namespace {

constexpr double kHeight = 400, kRight = 16, kTop = 6;
constexpr std::size_t kMostMarks = 40;      // of a line that are drawn; of more the line says it all
constexpr std::size_t kMostTooltips = 300;  // of a line

bool has_interval(const ChartPoint& point) { return std::isfinite(point.low) && std::isfinite(point.high); }

/// Ranges of both axes over what can be shown.
struct Ranges {
  AxisRange x, y;

  explicit Ranges(const XyChart& chart) : x(chart.x.kind), y(chart.y.kind) {
    for (const ChartSeries& series : chart.series)
      for (const ChartPoint& point : series.points) {
        if (!shows(point)) continue;
        x.add(point.x);
        for (const double value : {point.y, point.low, point.high}) y.add(value);
      }
    for (const ReferenceLine& reference : chart.references) y.add(reference.value);
  }

  bool shows(const ChartPoint& point) const { return x.can_show(point.x) && y.can_show(point.y); }
};

/// Where names of points may stand, so that none lies on another or on a point.
class NamePlaces {
 public:
  explicit NamePlaces(const Box& panel) : panel_(panel) {}

  void take(Point point) { taken_.push_back({point.x - 5, point.y - 5, point.x + 5, point.y + 5}); }

  /// The first free place beside a point: where its text begins.
  std::optional<Point> find(Point at, std::string_view name) {
    const double width = text_width(name);
    constexpr double kGap = 8;
    for (const Point corner : {Point{at.x + kGap, at.y - 6}, Point{at.x + kGap, at.y - 16},
                               Point{at.x + kGap, at.y + 4}, Point{at.x - kGap - width, at.y - 6},
                               Point{at.x - kGap - width, at.y - 16}, Point{at.x - kGap - width, at.y + 4},
                               Point{at.x - width / 2, at.y - 20}, Point{at.x - width / 2, at.y + 8}}) {
      const Box box{corner.x, corner.y, corner.x + width, corner.y + kTextHeight};
      if (!panel_.contains(box)) continue;
      if (std::ranges::any_of(taken_, [&](const Box& other) { return other.overlaps(box); })) continue;
      taken_.push_back(box);
      return Point{box.left, box.bottom - 2};
    }
    return std::nullopt;
  }

 private:
  Box panel_;
  std::vector<Box> taken_;
};

class Drawing {
 public:
  explicit Drawing(const XyChart& chart) : chart_(chart), ranges_(chart) {}

  Picture picture() && {
    const double top = draw_legend(canvas_, legend(), {0, 0}, kChartWidth) + kTop;
    const double bottom = top + kHeight - kXAxisHeight;
    y_.emplace(ranges_.y, bottom, top);
    panel_ = {y_axis_width(*y_, chart_.y.title), top, kChartWidth - kRight, bottom};
    x_.emplace(ranges_.x, panel_.left, panel_.right);
    draw_x_axis(canvas_, *x_, panel_, chart_.x.title);
    draw_y_axis(canvas_, *y_, panel_, chart_.y.title);
    if (ranges_.x.empty()) draw_nothing(canvas_, panel_);
    draw_references();
    // Lines first: points lie on them.
    for (std::size_t s = 0; s < chart_.series.size(); ++s) draw_lines(s);
    for (std::size_t s = 0; s < chart_.series.size(); ++s) draw_points(s);
    draw_names();
    return std::move(canvas_).picture(chart_.title, kChartWidth, bottom + kXAxisHeight);
  }

 private:
  std::size_t look_of(std::size_t series) const { return chart_.series[series].looks_like.value_or(series); }
  std::string colour_of(std::size_t series) const { return std::to_string(look_of(series) % kSeriesColours); }
  Point place(const ChartPoint& point) const { return {x_->place(point.x), y_->place(point.y)}; }

  std::vector<LegendEntry> legend() const {
    std::vector<LegendEntry> entries;
    for (std::size_t s = 0; s < chart_.series.size(); ++s) {
      const SeriesStyle style = chart_.series[s].style;
      const LegendMark mark = style == SeriesStyle::line     ? LegendMark::line
                              : style == SeriesStyle::chosen ? LegendMark::hollow
                                                             : LegendMark::filled;
      if (!chart_.series[s].name.empty()) entries.push_back({chart_.series[s].name, look_of(s), mark});
    }
    for (const ReferenceLine& reference : chart_.references) entries.push_back({reference.name, 0, LegendMark::dashed});
    return entries;
  }

  void draw_references() {
    for (const ReferenceLine& reference : chart_.references) {
      if (!y_->can_show(reference.value)) continue;
      const double y = y_->place(reference.value);
      canvas_.line({panel_.left, y}, {panel_.right, y},
                   {"reference", fmt::format("{}: {}", reference.name, short_number(reference.value))});
    }
  }

  /// Calls take(first, last) for each run of points that can be shown.
  template <typename Take>
  void for_each_run(const std::vector<ChartPoint>& points, const Take& take) const {
    for (std::size_t first = 0; first < points.size(); ++first) {
      if (!ranges_.shows(points[first])) continue;
      std::size_t last = first;
      while (last < points.size() && ranges_.shows(points[last])) ++last;
      take(first, last);
      first = last;
    }
  }

  void draw_lines(std::size_t s) {
    const ChartSeries& series = chart_.series[s];
    if (series.style != SeriesStyle::line) return;
    for_each_run(series.points, [&](std::size_t first, std::size_t last) {
      draw_ribbon(s, first, last);
      std::vector<Point> places;
      for (std::size_t i = first; i < last; ++i) places.push_back(place(series.points[i]));
      canvas_.polyline(places, {"line l" + colour_of(s)});
    });
  }

  void draw_ribbon(std::size_t s, std::size_t first, std::size_t last) {
    const std::vector<ChartPoint>& points = chart_.series[s].points;
    std::vector<Point> around;
    const auto add = [&](const ChartPoint& point, double value) {
      if (has_interval(point) && y_->can_show(value)) around.push_back({x_->place(point.x), y_->place(value)});
    };
    for (std::size_t i = first; i < last; ++i) add(points[i], points[i].high);
    for (std::size_t i = last; i > first; --i) add(points[i - 1], points[i - 1].low);
    if (around.size() > 3) canvas_.polygon(around, {"r" + colour_of(s)});
  }

  std::string tooltip(std::size_t s, const ChartPoint& point) const {
    std::string text = chart_.series[s].name;
    if (!point.label.empty()) text += (text.empty() ? "" : ": ") + point.label;
    text += fmt::format("{}x {}, y {}", text.empty() ? "" : "\n", short_number(point.x), short_number(point.y));
    if (has_interval(point)) text += fmt::format(" ({} to {})", short_number(point.low), short_number(point.high));
    return text;
  }

  void draw_points(std::size_t s) {
    const ChartSeries& series = chart_.series[s];
    const bool is_line = series.style == SeriesStyle::line;
    if (is_line && series.points.size() > kMostTooltips) return;
    const bool is_drawn = !is_line || series.points.size() <= kMostMarks;
    for (const ChartPoint& point : series.points) {
      if (!ranges_.shows(point)) continue;
      if (!is_line) draw_whiskers(s, point);
      const std::string text = tooltip(s, point);
      if (series.style == SeriesStyle::chosen)
        canvas_.mark(place(point), look_of(s), 8, {"line l" + colour_of(s), text});
      if (is_drawn) canvas_.mark(place(point), look_of(s), is_line ? 2.6 : 4, {"f" + colour_of(s), text});
      if (is_line) canvas_.circle(place(point), 7, {"hit", text});
    }
  }

  void draw_whiskers(std::size_t s, const ChartPoint& point) {
    if (!has_interval(point) || !y_->can_show(point.low) || !y_->can_show(point.high)) return;
    const double x = x_->place(point.x);
    canvas_.line({x, y_->place(point.low)}, {x, y_->place(point.high)}, {"l" + colour_of(s)});
  }

  void draw_names() {
    NamePlaces places(panel_);
    for (const ChartSeries& series : chart_.series)
      if (series.style != SeriesStyle::line)
        for (const ChartPoint& point : series.points)
          if (ranges_.shows(point)) places.take(place(point));
    for (const ChartSeries& series : chart_.series) {
      if (series.style != SeriesStyle::named_points) continue;
      for (const ChartPoint& point : series.points) {
        if (!ranges_.shows(point) || point.label.empty()) continue;
        const std::string name = shortened(point.label, 32);
        if (const auto at = places.find(place(point), name))
          canvas_.text(*at, Anchor::start, name, {"small label halo"});
      }
    }
  }

  const XyChart& chart_;
  Ranges ranges_;
  Canvas canvas_;
  Box panel_;
  std::optional<Scale> x_, y_;  ///< once the panel is known
};

}  // namespace

Picture XyChart::picture() const { return Drawing(*this).picture(); }

Table XyChart::table() const {
  const auto any = [&](const auto& is) {
    return std::ranges::any_of(series, [&](const ChartSeries& one) { return std::ranges::any_of(one.points, is); });
  };
  const bool intervals = any(has_interval);
  const bool labels = any([](const ChartPoint& point) { return !point.label.empty(); });
  std::vector<Column> columns{
      {"series", Align::left}, {x.title.empty() ? "x" : x.title}, {y.title.empty() ? "y" : y.title}};
  if (intervals) columns.insert(columns.end(), {{"low"}, {"high"}});
  if (labels) columns.push_back({"label", Align::left});
  Table table(columns);
  for (const ChartSeries& one : series)
    for (const ChartPoint& point : one.points) {
      std::vector<std::string> cells{one.name, data_number(point.x), data_number(point.y)};
      if (intervals) cells.insert(cells.end(), {data_number(point.low), data_number(point.high)});
      if (labels) cells.push_back(point.label);
      table.add_row(std::move(cells));
    }
  for (const ReferenceLine& reference : references) table.add_row({reference.name, "", data_number(reference.value)});
  return table;
}

std::vector<ChartPoint> front_of(std::vector<ChartPoint> points) {
  std::erase_if(points, [](const ChartPoint& point) { return !std::isfinite(point.x) || !std::isfinite(point.y); });
  std::ranges::stable_sort(
      points, [](const ChartPoint& a, const ChartPoint& b) { return a.x < b.x || (a.x == b.x && a.y < b.y); });
  std::vector<ChartPoint> front;
  for (ChartPoint& point : points)
    if (front.empty() || point.y < front.back().y) front.push_back(std::move(point));
  return front;
}

}  // namespace adze
