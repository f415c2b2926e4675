#include "report/chart/palette.h"

#include <algorithm>
#include <cmath>
#include <span>

#include <fmt/format.h>

namespace adze {
namespace {

constexpr Colour rgb(unsigned hex) {
  return {static_cast<int>(hex >> 16), static_cast<int>(hex >> 8 & 255), static_cast<int>(hex & 255)};
}

struct NamedColour {
  std::string_view name;  ///< of the custom property
  Colour light, dark;

  Colour on(Paper paper) const { return paper == Paper::light ? light : dark; }
};

constexpr std::array kNamed = {
    NamedColour{"paper", rgb(0xffffff), rgb(0x1b1e24)},        NamedColour{"desk", rgb(0xf4f5f7), rgb(0x121418)},
    NamedColour{"ink", rgb(0x1c2026), rgb(0xe8eaee)},          NamedColour{"muted", rgb(0x5a626e), rgb(0xa7aeba)},
    NamedColour{"grid", rgb(0xe3e6ea), rgb(0x333840)},         NamedColour{"axis", rgb(0x8a929e), rgb(0x767e8a)},
    NamedColour{"link", rgb(0x0043bd), rgb(0x8fb2ff)},         NamedColour{"warning", rgb(0xfff4d6), rgb(0x3a2f12)},
    NamedColour{"warning-edge", rgb(0xd17a08), rgb(0xd08a28)},
};

/// Found by search for the largest least distance of two of them as seen with protanopia, deuteranopia, tritanopia and
/// none of these, from the hues of Okabe and Ito, at a contrast of 3 with the paper.
constexpr std::array<NamedColour, kSeriesColours> kSeries = {{
    {"s0", rgb(0x0043bd), rgb(0x5568e0)},
    {"s1", rgb(0xa82a00), rgb(0xd08a28)},
    {"s2", rgb(0x007f55), rgb(0x1aac6c)},
    {"s3", rgb(0x96538c), rgb(0xb07fc2)},
    {"s4", rgb(0xd17a08), rgb(0xf5e34a)},
    {"s5", rgb(0x2496fb), rgb(0x7df3ff)},
    {"s6", rgb(0x3f2c3e), rgb(0xd5f5d0)},
}};

constexpr std::array kViridis = {rgb(0x440154), rgb(0x472d7b), rgb(0x3b528b), rgb(0x2c728e), rgb(0x21918c),
                                 rgb(0x28ae80), rgb(0x5ec962), rgb(0xaddc30), rgb(0xfde725)};
constexpr std::array kDeviationLight = {rgb(0x08519c), rgb(0x4292c6), rgb(0x9ecae1), rgb(0xf2f2f2),
                                        rgb(0xfdbe85), rgb(0xe6791a), rgb(0x8f3a00)};
constexpr std::array kDeviationDark = {rgb(0x8cc8ff), rgb(0x4a94d8), rgb(0x2d5680), rgb(0x30343b),
                                       rgb(0x80511f), rgb(0xd98324), rgb(0xffc078)};

/// `share` of the way along stops at equal distances.
Colour between(std::span<const Colour> stops, double share) {
  const double at = std::clamp(share, 0.0, 1.0) * static_cast<double>(stops.size() - 1);
  const auto first = std::min(static_cast<std::size_t>(at), stops.size() - 2);
  const double part = at - static_cast<double>(first);
  Colour colour{};
  for (std::size_t i = 0; i < colour.size(); ++i)
    colour[i] = static_cast<int>(std::lround(stops[first][i] + part * (stops[first + 1][i] - stops[first][i])));
  return colour;
}

std::string hex(Colour colour) { return fmt::format("#{:02x}{:02x}{:02x}", colour[0], colour[1], colour[2]); }

std::string_view letter(Palette palette) { return palette == Palette::sequential ? "q" : "d"; }

/// What can be read on a shade.
Colour ink_on(Colour shade) {
  constexpr Colour kBlack = rgb(0x000000), kWhite = rgb(0xffffff);
  return contrast(shade, kBlack) >= contrast(shade, kWhite) ? kBlack : kWhite;
}

double luminance(Colour colour) {
  constexpr std::array kWeights = {0.2126, 0.7152, 0.0722};
  double sum = 0;
  for (std::size_t i = 0; i < colour.size(); ++i) {
    const double part = colour[i] / 255.0;
    sum += kWeights[i] * (part <= 0.04045 ? part / 12.92 : std::pow((part + 0.055) / 1.055, 2.4));
  }
  return sum;
}

/// Every colour of the style sheets by its name.
template <typename Take>
void for_each_colour(Paper paper, const Take& take) {
  for (const NamedColour& colour : kNamed) take(std::string(colour.name), colour.on(paper));
  for (const NamedColour& colour : kSeries) take(std::string(colour.name), colour.on(paper));
  for (const Palette palette : {Palette::sequential, Palette::diverging})
    for (std::size_t shade = 0; shade < kShades; ++shade) {
      const Colour colour = shade_colour(palette, shade, paper);
      take(fmt::format("{}{}", letter(palette), shade), colour);
      take(fmt::format("{}{}-ink", letter(palette), shade), ink_on(colour));
    }
}

/// Marks of pictures: fN fills with the colour of series N, lN draws lines in it, rN is a ribbon; qN and dN fill with a
/// shade, and text in them has the class of the shade and `on`.
std::string rules() {
  std::string text =
      "svg text{font-size:12px;fill:var(--ink);font-variant-numeric:tabular-nums}\n"
      "svg .muted{fill:var(--muted)}\n"
      "svg .small{font-size:11px}\n"
      "svg .halo{paint-order:stroke;stroke:var(--paper);stroke-width:3;stroke-linejoin:round}\n"
      "svg .label{pointer-events:none}\n"
      "svg .title{font-size:15px;font-weight:600}\n"
      "svg .paper{fill:var(--paper)}\n"
      "svg .grid{stroke:var(--grid);stroke-width:1}\n"
      "svg .axis{stroke:var(--axis);stroke-width:1}\n"
      "svg .reference{stroke:var(--muted);stroke-width:1.4;stroke-dasharray:5 4;fill:none}\n"
      "svg .empty{fill:none;stroke:var(--grid);stroke-width:1}\n"
      "svg .frame{fill:none;stroke:var(--ink);stroke-width:1.6}\n"
      "svg .noise{fill-opacity:.35}\n"
      "svg .hollow{fill:var(--paper)}\n"
      "svg .hit{fill:transparent;stroke:none}\n";
  for (std::size_t s = 0; s < kSeriesColours; ++s)
    text += fmt::format(
        "svg .f{0}{{fill:var(--s{0})}}\nsvg .l{0}{{stroke:var(--s{0});stroke-width:1.8;stroke-linejoin:round}}\n"
        "svg .r{0}{{fill:var(--s{0});fill-opacity:.16;stroke:none}}\n",
        s);
  text += "svg .line{fill:none}\n";
  for (const char* const name : {"q", "d"})
    for (std::size_t shade = 0; shade < kShades; ++shade)
      text += fmt::format("svg .{0}{1}{{fill:var(--{0}{1})}}\nsvg .{0}{1}.on{{fill:var(--{0}{1}-ink)}}\n", name, shade);
  return text;
}

std::string properties(Paper paper) {
  std::string text;
  for_each_colour(paper,
                  [&](const std::string& name, Colour colour) { text += fmt::format("--{}:{};", name, hex(colour)); });
  return text;
}

}  // namespace

Colour paper_colour(Paper paper) { return kNamed.front().on(paper); }

Colour series_colour(std::size_t series, Paper paper) { return kSeries[series % kSeriesColours].on(paper); }

Colour shade_colour(Palette palette, std::size_t shade, Paper paper) {
  const double share = static_cast<double>(shade) / (kShades - 1);
  if (palette == Palette::sequential) return between(kViridis, share);
  return between(paper == Paper::light ? kDeviationLight : kDeviationDark, share);
}

double contrast(Colour a, Colour b) {
  const double first = luminance(a), second = luminance(b);
  return (std::max(first, second) + 0.05) / (std::min(first, second) + 0.05);
}

std::string shade_class(Palette palette, double share) {
  const auto shade = std::lround(std::clamp(share, 0.0, 1.0) * (kShades - 1));
  return fmt::format("{}{}", letter(palette), shade);
}

std::string page_colours() {
  return fmt::format(
      ":root{{color-scheme:light dark;{}}}\n@media (prefers-color-scheme:dark){{:root{{{}}}}}\n"
      "{}",
      properties(Paper::light), properties(Paper::dark), rules());
}

std::string picture_style() {
  std::string text = rules();
  for_each_colour(Paper::light, [&](const std::string& name, Colour colour) {
    const std::string use = "var(--" + name + ")", value = hex(colour);
    for (std::size_t at = text.find(use); at != std::string::npos; at = text.find(use, at))
      text.replace(at, use.size(), value);
  });
  return text;
}

}  // namespace adze
