#include "report/line_chart.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "base/error.h"

namespace adze {
namespace {

constexpr double kWidth = 720, kHeight = 440;
constexpr double kLeft = 76, kRight = 20, kTop = 40, kBottom = 56;
// Distinct in hue and in lightness, for print and for eyes that see fewer colours (Okabe and Ito).
constexpr std::array<std::string_view, 6> kColours{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"};

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else
      out += c;
  }
  return out;
}

bool is_shown(const ChartPoint& point) { return std::isfinite(point.x) && std::isfinite(point.y) && point.y > 0; }

/// From values to places, and the marks between its ends.
struct Axis {
  double least = 0, most = 1;  ///< of x itself, of log10 y
  double begin = 0, end = 1;   ///< pixels

  double place(double value) const { return begin + (value - least) / (most - least) * (end - begin); }
};

/// 1, 2 or 5 times a power of ten that cuts the range into four to ten.
double round_step(double range) {
  const double power = std::pow(10, std::floor(std::log10(range / 4)));
  for (const double times : {5.0, 2.0})
    if (range / (times * power) >= 4) return times * power;
  return power;
}

class Drawing {
 public:
  explicit Drawing(const LineChart& chart) : chart_(chart) {
    double low_x = std::numeric_limits<double>::infinity(), high_x = -low_x, low_y = low_x, high_y = -low_x;
    for (const ChartSeries& series : chart.series)
      for (const ChartPoint& point : series.points) {
        if (!is_shown(point)) continue;
        low_x = std::min(low_x, point.x);
        high_x = std::max(high_x, point.x);
        low_y = std::min(low_y, std::log10(point.y));
        high_y = std::max(high_y, std::log10(point.y));
      }
    if (low_x > high_x) fail(ErrorKind::bad_data, "a chart without a point to show");
    const double margin_x = std::max(0.03 * (high_x - low_x), 1e-9 + 1e-3 * std::abs(high_x));
    const double margin_y = std::max(0.05 * (high_y - low_y), 0.05);
    x_ = {low_x - margin_x, high_x + margin_x, kLeft, kWidth - kRight};
    y_ = {low_y - margin_y, high_y + margin_y, kHeight - kBottom, kTop};
  }

  std::string svg() {
    text_ = fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\" "
        "font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"{0}\" height=\"{1}\" fill=\"white\"/>\n",
        kWidth, kHeight);
    write(kWidth / 2, 22, "middle", chart_.title, "font-size=\"15\"");
    draw_x_axis();
    draw_y_axis();
    for (std::size_t i = 0; i < chart_.series.size(); ++i) draw_series(i);
    return text_ + "</svg>\n";
  }

 private:
  void write(double x, double y, std::string_view anchor, std::string_view words, std::string_view more = "") {
    text_ += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\" {}>{}</text>\n", x, y, anchor, more,
                         escaped(words));
  }

  void grid_line(double x1, double y1, double x2, double y2) {
    text_ += fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"#ddd\"/>\n", x1, y1,
                         x2, y2);
  }

  void draw_x_axis() {
    const double step = round_step(x_.most - x_.least);
    for (double mark = std::ceil(x_.least / step) * step; mark <= x_.most; mark += step) {
      grid_line(x_.place(mark), kTop, x_.place(mark), kHeight - kBottom);
      write(x_.place(mark), kHeight - kBottom + 18, "middle", fmt::format("{:.6g}", mark));
    }
    write((kLeft + kWidth - kRight) / 2, kHeight - 14, "middle", chart_.x_title);
  }

  void draw_y_axis() {
    for (int power = static_cast<int>(std::floor(y_.least)); power <= y_.most; ++power)
      for (const double digit : {1.0, 2.0, 5.0}) {
        const double mark = power + std::log10(digit);
        if (mark < y_.least || mark > y_.most) continue;
        grid_line(kLeft, y_.place(mark), kWidth - kRight, y_.place(mark));
        write(kLeft - 8, y_.place(mark) + 4, "end", fmt::format("{:g}", digit * std::pow(10, power)));
      }
    write(18, (kTop + kHeight - kBottom) / 2, "middle", chart_.y_title,
          fmt::format("transform=\"rotate(-90 18 {:.1f})\"", (kTop + kHeight - kBottom) / 2));
  }

  void draw_series(std::size_t index) {
    const ChartSeries& series = chart_.series[index];
    const std::string_view colour = kColours[index % kColours.size()];
    std::string path;
    for (const ChartPoint& point : series.points) {
      if (!is_shown(point)) continue;
      const double x = x_.place(point.x), y = y_.place(std::log10(point.y));
      path += fmt::format("{}{:.1f},{:.1f}", path.empty() ? "" : " ", x, y);
      if (!series.line || !point.label.empty())
        text_ += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\" fill=\"{}\"><title>{}</title></circle>\n", x,
                             y, colour, escaped(point.label));
    }
    if (series.line)
      text_ +=
          fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.8\"/>\n", path, colour);
    const double y = kTop + 14 + 18 * static_cast<double>(index);
    text_ += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"12\" height=\"12\" fill=\"{}\"/>\n",
                         kWidth - kRight - 160, y - 10, colour);
    write(kWidth - kRight - 142, y, "start", series.name);
  }

  const LineChart& chart_;
  Axis x_, y_;
  std::string text_;
};

}  // namespace

std::string LineChart::svg() const { return Drawing(*this).svg(); }

}  // namespace adze
