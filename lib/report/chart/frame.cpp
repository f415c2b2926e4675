#include "report/chart/frame.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "report/chart/palette.h"
#include "report/markup.h"

namespace adze {
namespace {

constexpr double kXSpacing = 80, kYSpacing = 48;  // pixels between marks
constexpr std::size_t kLongestName = 30;          // characters of a row's name

void draw_legend_mark(Canvas& canvas, const LegendEntry& entry, Point at) {
  const std::string series = std::to_string(entry.series % kSeriesColours);
  switch (entry.mark) {
    case LegendMark::line:
      canvas.line({at.x, at.y}, {at.x + 16, at.y}, {"l" + series});
      break;
    case LegendMark::dashed:
      canvas.line({at.x, at.y}, {at.x + 16, at.y}, {"reference"});
      return;
    case LegendMark::bar:
      canvas.rect({at.x, at.y - 5, at.x + 16, at.y + 5}, {"f" + series});
      return;
    default:
      break;
  }
  const bool hollow = entry.mark == LegendMark::hollow;
  canvas.mark({at.x + 8, at.y}, entry.series, 4, {hollow ? "hollow l" + series : "f" + series});
}

}  // namespace

double draw_legend(Canvas& canvas, const std::vector<LegendEntry>& entries, Point at, double width) {
  constexpr double kLine = 20, kMark = 22, kGap = 16;
  if (entries.empty()) return 0;
  double x = at.x, y = at.y + kLine / 2;
  for (const LegendEntry& entry : entries) {
    const std::string name = shortened(entry.name, 60);
    const double needed = kMark + text_width(name);
    if (x > at.x && x + needed > at.x + width) {
      x = at.x;
      y += kLine;
    }
    draw_legend_mark(canvas, entry, {x, y});
    canvas.text({x + kMark, y + 4}, Anchor::start, name);
    x += needed + kGap;
  }
  return y + kLine / 2 - at.y + 6;
}

void draw_x_axis(Canvas& canvas, const Scale& scale, const Box& panel, const std::string& title) {
  for (const Tick& tick : scale.ticks(kXSpacing)) {
    const double x = scale.place(tick.value);
    canvas.line({x, panel.top}, {x, panel.bottom}, {"grid"});
    canvas.text({x, panel.bottom + 17}, Anchor::middle, tick.text, {"muted"});
  }
  canvas.line({panel.left, panel.bottom}, {panel.right, panel.bottom}, {"axis"});
  canvas.text({panel.middle().x, panel.bottom + 37}, Anchor::middle, title);
}

void draw_y_axis(Canvas& canvas, const Scale& scale, const Box& panel, const std::string& title) {
  for (const Tick& tick : scale.ticks(kYSpacing)) {
    const double y = scale.place(tick.value);
    canvas.line({panel.left, y}, {panel.right, y}, {"grid"});
    canvas.text({panel.left - 8, y + 4}, Anchor::end, tick.text, {"muted"});
  }
  canvas.line({panel.left, panel.top}, {panel.left, panel.bottom}, {"axis"});
  if (!title.empty()) canvas.turned_text({14, panel.middle().y}, Anchor::middle, -90, title);
}

double y_axis_width(const Scale& scale, const std::string& title) {
  double widest = 0;
  for (const Tick& tick : scale.ticks(kYSpacing)) widest = std::max(widest, text_width(tick.text));
  return widest + 14 + (title.empty() ? 0 : 20);
}

void draw_nothing(Canvas& canvas, const Box& panel) {
  canvas.text(panel.middle(), Anchor::middle, "nothing to show", {"muted"});
}

RowNames::RowNames(const std::vector<std::string>& names, double row_height) : names_(names), row_height_(row_height) {
  double widest = 0;
  for (const std::string& name : names) widest = std::max(widest, text_width(shortened(name, kLongestName)));
  width_ = widest + 12;
}

void RowNames::draw(Canvas& canvas, double top) const {
  const auto every = static_cast<std::size_t>(std::ceil((kTextHeight + 1) / row_height_));
  for (std::size_t row = 0; row < names_.size(); row += every) {
    const std::string shown = shortened(names_[row], kLongestName);
    canvas.text({width_ - 8, middle(row, top) + 4}, Anchor::end, shown,
                {"", characters_in(names_[row]) > kLongestName ? names_[row] : ""});
  }
}

}  // namespace adze
