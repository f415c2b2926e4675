#include "report/chart/heat_map.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "base/error.h"
#include "report/chart/frame.h"
#include "report/markup.h"
#include "report/numbers.h"

namespace adze {
namespace {

constexpr double kRight = 16;
constexpr double kLeastCell = 7, kMostCell = 64;  // widths
constexpr double kNumberCell = 36;                // the least width with a number in it
constexpr std::size_t kMostNumbers = 600;
constexpr std::size_t kLongestColumn = 22;  // characters

AxisRange range_of(const HeatMap& map) {
  AxisRange range(map.palette == Palette::diverging ? AxisKind::linear : map.kind);
  for (const double value : map.values) range.add(value);
  if (map.palette == Palette::diverging && !range.empty()) {  // as far to both sides
    const double away = std::max(range.most() - map.middle, map.middle - range.least());
    range.add(map.middle - away);
    range.add(map.middle + away);
  }
  return range;
}

double row_height(std::size_t rows) { return rows <= 30 ? 24 : rows <= 60 ? 16 : 11; }

double cell_width(std::size_t columns, double room) {
  return std::clamp(room / static_cast<double>(std::max<std::size_t>(1, columns)), kLeastCell, kMostCell);
}

bool are_numbers(const std::vector<std::string>& names) {
  return std::ranges::all_of(names, [](const std::string& name) {
    return !name.empty() && name.find_first_not_of("0123456789") == std::string::npos;
  });
}

/// Names of columns above the cells: in full where they fit, numbers thinned out, other names turned.
class ColumnNames {
 public:
  /// `cell`: how wide cells are at the most.
  ColumnNames(const std::vector<std::string>& names, double cell) : names_(names) {
    for (const std::string& name : names) widest_ = std::max(widest_, text_width(shortened(name, kLongestColumn)));
    turned_ = widest_ + 4 > cell && !are_numbers(names);
  }

  double height() const { return turned_ ? 0.71 * widest_ + 16 : 20; }
  /// Pixels that the last turned name reaches beyond its cell.
  double overhang() const { return turned_ ? 0.71 * widest_ : 0; }

  void draw(Canvas& canvas, double left, double bottom, double cell) const {
    const double room = turned_ ? kTextHeight : widest_ + 6;
    const auto every = static_cast<std::size_t>(std::max(1.0, std::ceil(room / cell)));
    for (std::size_t c = 0; c < names_.size(); c += every) {
      const std::string name = shortened(names_[c], kLongestColumn);
      const Point at{left + (static_cast<double>(c) + 0.5) * cell, bottom - 6};
      if (turned_)
        canvas.turned_text({at.x + 4, at.y}, Anchor::start, -45, name, {"muted"});
      else
        canvas.text(at, Anchor::middle, name, {"muted"});
    }
  }

 private:
  const std::vector<std::string>& names_;
  double widest_ = 0;
  bool turned_ = false;
};

class Drawing {
 public:
  Drawing(const HeatMap& map, Canvas& canvas, const Box& panel, double cell, double height)
      : map_(map),
        canvas_(canvas),
        panel_(panel),
        cell_(cell),
        height_(height),
        range_(range_of(map)),
        shades_(range_, 0, 1, 0) {
    writes_numbers_ = cell >= kNumberCell && height >= 16 && map.values.size() <= kMostNumbers;
  }

  void draw_cells() {
    for (std::size_t r = 0; r < map_.rows.size(); ++r)
      for (std::size_t c = 0; c < map_.columns.size(); ++c) draw_cell(r, c);
    if (!map_.marks_diagonal) return;
    for (std::size_t i = 0; i < std::min(map_.rows.size(), map_.columns.size()); ++i)
      canvas_.rect(box(i, i), {"frame"});
  }

  /// The palette with numbers below it.
  void draw_key(double top) {
    constexpr double kLength = 300, kHeight = 12;
    const double left = panel_.left;
    if (range_.empty()) return;
    for (std::size_t s = 0; s < kShades; ++s) {
      const double begin = left + kLength * static_cast<double>(s) / kShades;
      canvas_.rect({begin, top, begin + kLength / kShades + 0.3, top + kHeight},
                   {shade_class(map_.palette, static_cast<double>(s) / (kShades - 1))});
    }
    const Scale scale(range_, left, left + kLength, 0);
    for (const Tick& tick : scale.ticks(60)) {
      const double x = scale.place(tick.value);
      canvas_.line({x, top + kHeight}, {x, top + kHeight + 4}, {"axis"});
      canvas_.text({x, top + kHeight + 17}, Anchor::middle, tick.text, {"muted small"});
    }
    canvas_.text({left + kLength + 28, top + kHeight - 2}, Anchor::start, map_.value);
  }

 private:
  Box box(std::size_t r, std::size_t c) const {
    const double left = panel_.left + cell_ * static_cast<double>(c),
                 top = panel_.top + height_ * static_cast<double>(r);
    return {left, top, left + cell_ - 1, top + height_ - 1};
  }

  /// Two digits; hundreds and thousands whole.
  static std::string cell_text(double value) {
    return std::abs(value) >= 99.5 && std::abs(value) < 99999.5 ? fmt::format("{:.0f}", value)
                                                                : fmt::format("{:.2g}", value);
  }

  bool is_noise(double value) const { return map_.noise && std::abs(value - map_.middle) <= *map_.noise; }

  void draw_cell(std::size_t r, std::size_t c) {
    const double value = map_.at(r, c);
    if (std::isnan(value)) return;
    const std::string tooltip = fmt::format("{}, {}: {}{}", map_.rows[r], map_.columns[c], short_number(value),
                                            is_noise(value) ? " (noise)" : "");
    if (!shades_.can_show(value)) return canvas_.rect(box(r, c), {"empty", tooltip});
    const std::string shade = shade_class(map_.palette, shades_.place(value));
    canvas_.rect(box(r, c), {shade + (is_noise(value) ? " noise" : ""), tooltip});
    if (writes_numbers_)
      canvas_.text({box(r, c).middle().x, box(r, c).middle().y + 4}, Anchor::middle, cell_text(value),
                   {is_noise(value) ? "small label" : "small label on " + shade});
  }

  const HeatMap& map_;
  Canvas& canvas_;
  const Box& panel_;
  double cell_, height_;
  AxisRange range_;
  Scale shades_;
  bool writes_numbers_ = false;
};

}  // namespace

Picture HeatMap::picture() const {
  if (values.size() != rows.size() * columns.size())
    fail(ErrorKind::internal, "a heat map of {} x {} cells with {} values", rows.size(), columns.size(), values.size());
  constexpr double kKeyHeight = 34, kColumnTitle = 18;
  Canvas canvas;
  const RowNames names(rows, row_height(rows.size()));
  const double room = kChartWidth - kRight - names.width();
  const ColumnNames column_names(columns, cell_width(columns.size(), room));
  // Turned names of the last columns need room at the right.
  const double cell = cell_width(columns.size(), room - column_names.overhang());
  const double top = kColumnTitle + column_names.height();
  const Box panel{names.width(), top, names.width() + cell * static_cast<double>(columns.size()),
                  top + std::max(names.height(), kKeyHeight)};
  canvas.text({panel.left, 12}, Anchor::start, column);
  column_names.draw(canvas, panel.left, panel.top, cell);
  names.draw(canvas, panel.top);
  if (values.empty()) draw_nothing(canvas, {names.width(), top, kChartWidth - kRight, panel.bottom});
  Drawing drawing(*this, canvas, panel, cell, names.row_height());
  drawing.draw_cells();
  drawing.draw_key(panel.bottom + 14);
  const double needed = panel.right + column_names.overhang() + kRight;
  return std::move(canvas).picture(title, std::max(kChartWidth, needed), panel.bottom + 14 + kKeyHeight);
}

Table HeatMap::table() const {
  // A long and narrow table is read more easily than a wide one.
  constexpr std::size_t kMostColumns = 12;
  const bool turned = columns.size() > kMostColumns && columns.size() > rows.size();
  const std::vector<std::string>& down = turned ? columns : rows;
  const std::vector<std::string>& across = turned ? rows : columns;
  std::vector<Column> titles{{turned ? column : row, Align::left}};
  for (const std::string& name : across) titles.push_back({name});
  Table table(titles);
  for (std::size_t d = 0; d < down.size(); ++d) {
    std::vector<std::string> cells{down[d]};
    for (std::size_t a = 0; a < across.size(); ++a) cells.push_back(data_number(turned ? at(a, d) : at(d, a)));
    table.add_row(std::move(cells));
  }
  return table;
}

}  // namespace adze
