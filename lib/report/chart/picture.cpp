#include "report/chart/picture.h"

#include <cmath>

#include <fmt/format.h>

#include "report/chart/palette.h"
#include "report/markup.h"

namespace adze {
namespace {

constexpr double kMargin = 12;  // of a file, around the picture
constexpr double kTitleHeight = 32;
/// A page's picture is drawn at no less than this part of its size: its texts are 9 pixels high then.
constexpr double kLeastShown = 0.75;

/// To a tenth, without ".0" and "-0".
std::string place(double value) {
  std::string text = fmt::format("{:.1f}", value);
  if (text.ends_with(".0")) text.resize(text.size() - 2);
  return text == "-0" ? "0" : text;
}

std::string places(std::span<const Point> points) {
  std::string text;
  for (const Point& point : points) text += (text.empty() ? "" : " ") + place(point.x) + "," + place(point.y);
  return text;
}

std::string_view name_of(Anchor anchor) {
  return anchor == Anchor::start ? "start" : anchor == Anchor::middle ? "middle" : "end";
}

/// Corners of a mark around the origin, of radius 1; the circle has none.
std::span<const Point> corners(std::size_t shape) {
  static constexpr Point kSquare[] = {{-0.86, -0.86}, {0.86, -0.86}, {0.86, 0.86}, {-0.86, 0.86}};
  static constexpr Point kUp[] = {{0, -1.2}, {1.1, 0.8}, {-1.1, 0.8}};
  static constexpr Point kDiamond[] = {{0, -1.25}, {1.25, 0}, {0, 1.25}, {-1.25, 0}};
  static constexpr Point kDown[] = {{0, 1.2}, {-1.1, -0.8}, {1.1, -0.8}};
  switch (shape % kMarkShapes) {
    case 1:
      return kSquare;
    case 2:
      return kUp;
    case 3:
      return kDiamond;
    case 4:
      return kDown;
    default:
      return {};
  }
}

}  // namespace

double text_width(std::string_view text) {
  constexpr double kPerCharacter = 6.7;  // of 12 pixels, in the wider of common fonts
  return kPerCharacter * static_cast<double>(characters_in(text));
}

std::string Picture::file() const {
  const double full_width = width + 2 * kMargin, full_height = height + kTitleHeight + 2 * kMargin;
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"{} {} {} {}\" width=\"{}\" height=\"{}\" "
      "font-family=\"sans-serif\">\n<title>{}</title>\n<style>\n{}</style>\n"
      "<rect class=\"paper\" x=\"{}\" y=\"{}\" width=\"100%\" height=\"100%\"/>\n"
      "<text class=\"title\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n{}</svg>\n",
      place(-kMargin), place(-kMargin - kTitleHeight), place(full_width), place(full_height), place(full_width),
      place(full_height), html_escaped(title), picture_style(), place(-kMargin), place(-kMargin - kTitleHeight),
      place(width / 2), place(-kTitleHeight / 2), html_escaped(title), marks);
}

std::string Picture::inline_svg() const {
  return fmt::format(
      "<svg viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\" style=\"min-width:{2}px;max-width:{0}px\" "
      "role=\"img\" "
      "aria-label=\"{3}\">\n{4}</svg>\n",
      place(width), place(height), place(std::floor(kLeastShown * width)), html_escaped(title), marks);
}

void Canvas::element(std::string_view name, std::string_view attributes, const MarkStyle& style,
                     std::string_view content) {
  marks_ += fmt::format("<{}{}", name, attributes);
  if (!style.css.empty()) marks_ += fmt::format(" class=\"{}\"", html_escaped(style.css));
  if (content.empty() && style.tooltip.empty()) {
    marks_ += "/>\n";
    return;
  }
  marks_ += ">";
  if (!style.tooltip.empty()) marks_ += fmt::format("<title>{}</title>", html_escaped(style.tooltip));
  marks_ += fmt::format("{}</{}>\n", content, name);
}

void Canvas::text(Point at, Anchor anchor, std::string_view words, const MarkStyle& style) {
  element("text", fmt::format(" x=\"{}\" y=\"{}\" text-anchor=\"{}\"", place(at.x), place(at.y), name_of(anchor)),
          style, html_escaped(words));
}

void Canvas::turned_text(Point at, Anchor anchor, double degrees, std::string_view words, const MarkStyle& style) {
  element("text",
          fmt::format(" x=\"{0}\" y=\"{1}\" text-anchor=\"{2}\" transform=\"rotate({3} {0} {1})\"", place(at.x),
                      place(at.y), name_of(anchor), place(degrees)),
          style, html_escaped(words));
}

void Canvas::line(Point from, Point to, const MarkStyle& style) {
  element(
      "line",
      fmt::format(" x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\"", place(from.x), place(from.y), place(to.x), place(to.y)),
      style);
}

void Canvas::rect(const Box& box, const MarkStyle& style) {
  element("rect",
          fmt::format(" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"", place(box.left), place(box.top),
                      place(box.width()), place(box.height())),
          style);
}

void Canvas::circle(Point centre, double radius, const MarkStyle& style) {
  element("circle", fmt::format(" cx=\"{}\" cy=\"{}\" r=\"{}\"", place(centre.x), place(centre.y), place(radius)),
          style);
}

void Canvas::mark(Point centre, std::size_t shape, double radius, const MarkStyle& style) {
  const std::span<const Point> around = corners(shape);
  if (around.empty()) return circle(centre, radius, style);
  std::vector<Point> points;
  for (const Point& corner : around) points.push_back({centre.x + radius * corner.x, centre.y + radius * corner.y});
  polygon(points, style);
}

void Canvas::polyline(std::span<const Point> points, const MarkStyle& style) {
  element("polyline", fmt::format(" points=\"{}\"", places(points)), style);
}

void Canvas::polygon(std::span<const Point> points, const MarkStyle& style) {
  element("polygon", fmt::format(" points=\"{}\"", places(points)), style);
}

Picture Canvas::picture(std::string title, double width, double height) && {
  return {std::move(title), width, height, std::move(marks_)};
}

}  // namespace adze
