// The colours of reports and pictures, for light and for dark paper, in one table. Series differ in hue and lightness
// so that eyes which see fewer colours, and print, still tell them apart (tests/report/palette_test.cpp measures it);
// they differ in the shape of their marks, too. Amounts go along viridis (van der Walt and Smith), which grows evenly
// in lightness; deviations from a middle go to blue below and to orange above it.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>

namespace adze {

enum class Paper { light, dark };

/// Red, green, blue, 0 to 255 each.
using Colour = std::array<int, 3>;

inline constexpr std::size_t kSeriesColours = 7;
/// Steps of a palette of amounts or deviations; odd, so that a middle is there.
inline constexpr std::size_t kShades = 25;

enum class Palette { sequential, diverging };

Colour paper_colour(Paper paper);
Colour series_colour(std::size_t series, Paper paper);
Colour shade_colour(Palette palette, std::size_t shade, Paper paper);

/// Luminances of two colours as a ratio of 1 to 21 (WCAG 2.2, contrast ratio).
double contrast(Colour a, Colour b);

/// The class of a shade in the style sheets, "q7" or "d7"; `share` from 0 to 1 along the palette.
std::string shade_class(Palette palette, double share);

/// Custom properties and rules of pages: both papers, chosen by prefers-color-scheme.
std::string page_colours();
/// The same rules for a picture that stands alone, for programs that know no custom properties: light paper.
std::string picture_style();

}  // namespace adze
