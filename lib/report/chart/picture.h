// Pictures in SVG: what charts draw on, and what comes of it. Colours are classes of report/chart/palette.h, never
// values, so that one picture serves light and dark paper. The same marks give the same bytes.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace adze {

/// A finished drawing. Its title is not drawn: a page writes it above, a file has it on top.
struct Picture {
  std::string title;
  double width = 0, height = 0;
  std::string marks;  ///< SVG elements

  /// A whole SVG file with its own style, on light paper.
  std::string file() const;
  /// An element for a page that has page_colours(). It shrinks with the page, but not so far that it cannot be read.
  std::string inline_svg() const;
};

struct Point {
  double x = 0, y = 0;
};

/// A rectangle; y grows downwards.
struct Box {
  double left = 0, top = 0, right = 0, bottom = 0;

  double width() const { return right - left; }
  double height() const { return bottom - top; }
  Point middle() const { return {(left + right) / 2, (top + bottom) / 2}; }
  bool overlaps(const Box& other) const {
    return left < other.right && other.left < right && top < other.bottom && other.top < bottom;
  }
  bool contains(const Box& other) const {
    return left <= other.left && other.right <= right && top <= other.top && other.bottom <= bottom;
  }
};

enum class Anchor { start, middle, end };

/// How wide a text is drawn, roughly: fonts are the reader's.
double text_width(std::string_view text);
inline constexpr double kTextHeight = 12;

/// Shapes of marks: series differ in more than colour.
inline constexpr std::size_t kMarkShapes = 5;

struct MarkStyle {
  std::string css = {};      ///< classes
  std::string tooltip = {};  ///< shown when it is pointed at
};

/// Appends elements. Coordinates are written to a tenth. Texts and tooltips may hold anything.
class Canvas {
 public:
  void text(Point at, Anchor anchor, std::string_view words, const MarkStyle& style = {});
  /// Turned about its anchor, in degrees; negative: counter-clockwise.
  void turned_text(Point at, Anchor anchor, double degrees, std::string_view words, const MarkStyle& style = {});
  void line(Point from, Point to, const MarkStyle& style);
  void rect(const Box& box, const MarkStyle& style);
  void circle(Point centre, double radius, const MarkStyle& style);
  /// A circle, square, triangle, diamond or triangle upside down.
  void mark(Point centre, std::size_t shape, double radius, const MarkStyle& style);
  void polyline(std::span<const Point> points, const MarkStyle& style);
  void polygon(std::span<const Point> points, const MarkStyle& style);

  Picture picture(std::string title, double width, double height) &&;

 private:
  void element(std::string_view name, std::string_view attributes, const MarkStyle& style,
               std::string_view content = "");

  std::string marks_;
};

}  // namespace adze
