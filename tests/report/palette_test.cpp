// Colours can be told apart by eyes of every kind, on light and on dark paper.
#include "report/chart/palette.h"

#include <algorithm>
#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace adze {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Triple = std::array<double, 3>;
using Mixing = std::array<Triple, 3>;

/// What is left of linear RGB at full severity (Machado, Oliveira and Fernandes 2009, table 1), and all of it.
constexpr Mixing kAll{{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}};
constexpr Mixing kProtanopia{
    {{0.152286, 1.052583, -0.204868}, {0.114503, 0.786281, 0.099216}, {-0.003882, -0.048116, 1.051998}}};
constexpr Mixing kDeuteranopia{
    {{0.367322, 0.860646, -0.227968}, {0.280085, 0.672501, 0.047413}, {-0.011820, 0.042940, 0.968881}}};
constexpr Mixing kTritanopia{
    {{1.255528, -0.076749, -0.178779}, {-0.078411, 0.930809, 0.147602}, {0.004733, 0.691367, 0.303900}}};

Triple seen(Colour colour, const Mixing& mixing) {
  Triple linear{}, out{};
  for (std::size_t i = 0; i < 3; ++i) {
    const double part = colour[i] / 255.0;
    linear[i] = part <= 0.04045 ? part / 12.92 : std::pow((part + 0.055) / 1.055, 2.4);
  }
  for (std::size_t i = 0; i < 3; ++i) {
    for (std::size_t j = 0; j < 3; ++j) out[i] += mixing[i][j] * linear[j];
    out[i] = std::clamp(out[i], 0.0, 1.0);
  }
  return out;
}

/// CIE 1976 L*a*b* under D65.
Triple lab(const Triple& rgb) {
  const auto f = [](double t) { return t > 0.008856 ? std::cbrt(t) : 7.787 * t + 16.0 / 116; };
  const double x = f((0.4124 * rgb[0] + 0.3576 * rgb[1] + 0.1805 * rgb[2]) / 0.9505);
  const double y = f(0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2]);
  const double z = f((0.0193 * rgb[0] + 0.1192 * rgb[1] + 0.9505 * rgb[2]) / 1.089);
  return {116 * y - 16, 500 * (x - y), 200 * (y - z)};
}

double distance(Colour a, Colour b, const Mixing& mixing) {
  const Triple first = lab(seen(a, mixing)), second = lab(seen(b, mixing));
  return std::hypot(first[0] - second[0], first[1] - second[1], first[2] - second[2]);
}

TEST(Palette, SeriesAreToldApartByEveryKindOfEye) {
  constexpr double kClearlyDifferent = 20;  // ten times what is just noticed
  for (const Paper paper : {Paper::light, Paper::dark})
    for (const Mixing& mixing : {kAll, kProtanopia, kDeuteranopia, kTritanopia})
      for (std::size_t a = 0; a < kSeriesColours; ++a)
        for (std::size_t b = a + 1; b < kSeriesColours; ++b)
          EXPECT_GT(distance(series_colour(a, paper), series_colour(b, paper), mixing), kClearlyDifferent)
              << a << " and " << b;
}

/// The measure can fail: red and green of equal lightness are one colour to deuteranopes.
TEST(Palette, TheDistanceKnowsWhatCannotBeSeen) {
  const Colour red{200, 60, 60}, green{110, 115, 60};
  EXPECT_GT(distance(red, green, kAll), 50);
  EXPECT_LT(distance(red, green, kDeuteranopia), 20);
}

TEST(Palette, SeriesStandOutFromThePaper) {
  for (const Paper paper : {Paper::light, Paper::dark})
    for (std::size_t s = 0; s < kSeriesColours; ++s)
      EXPECT_GE(contrast(series_colour(s, paper), paper_colour(paper)), 3) << s;
}

TEST(Palette, AmountsGrowInLightnessForEveryKindOfEye) {
  for (const Mixing& mixing : {kAll, kProtanopia, kDeuteranopia, kTritanopia})
    for (std::size_t s = 1; s < kShades; ++s)
      EXPECT_GT(lab(seen(shade_colour(Palette::sequential, s, Paper::light), mixing))[0],
                lab(seen(shade_colour(Palette::sequential, s - 1, Paper::light), mixing))[0] - 0.5)
          << s;
}

TEST(Palette, BothSidesOfTheMiddleDiffer) {
  for (const Paper paper : {Paper::light, Paper::dark})
    for (const Mixing& mixing : {kAll, kProtanopia, kDeuteranopia, kTritanopia})
      for (std::size_t s = 0; s < kShades / 3; ++s)
        EXPECT_GT(distance(shade_colour(Palette::diverging, s, paper),
                           shade_colour(Palette::diverging, kShades - 1 - s, paper), mixing),
                  20);
}

TEST(Palette, ContrastIsThatOfTheStandard) {
  EXPECT_NEAR(contrast({0, 0, 0}, {255, 255, 255}), 21, 1e-9);
  EXPECT_NEAR(contrast({119, 119, 119}, {255, 255, 255}), 4.48, 0.01);  // #777, the known near miss of 4.5
  EXPECT_NEAR(contrast({9, 9, 9}, {9, 9, 9}), 1, 1e-12);
}

TEST(Palette, SharesBecomeShades) {
  EXPECT_EQ(shade_class(Palette::sequential, 0), "q0");
  EXPECT_EQ(shade_class(Palette::sequential, 1), "q24");
  EXPECT_EQ(shade_class(Palette::diverging, 0.5), "d12");
  EXPECT_EQ(shade_class(Palette::sequential, -3), "q0");
  EXPECT_EQ(shade_class(Palette::sequential, 3), "q24");
}

TEST(Palette, AFileHasNoCustomPropertiesAndAPageHasBothPapers) {
  EXPECT_THAT(picture_style(), Not(HasSubstr("var(")));
  EXPECT_THAT(picture_style(), Not(HasSubstr("--")));
  EXPECT_THAT(page_colours(), HasSubstr("prefers-color-scheme:dark"));
  EXPECT_THAT(page_colours(), HasSubstr("svg .f6{fill:var(--s6)}"));
}

}  // namespace
}  // namespace adze
