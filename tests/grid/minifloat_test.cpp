// Grids of small floats: elements and scales against their definitions, golden bytes of the formats, searches against
// trying everything.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "base/error.h"
#include "grid/format.h"
#include "grid/grid_testing.h"
#include "grid/minifloat/minifloat_matrix.h"

namespace adze {
namespace {

using grid_testing::encode;
using grid_testing::random_weights;

/// The definition (OCP 8-bit floating point specification, E4M3): bias 7, no infinity.
double plain_e4m3(int magnitude) {
  const int exponent = magnitude / 8, mantissa = magnitude % 8;
  return exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
}

TEST(Minifloat, E4m3IsAsDefined) {
  for (int m = 0; m < 127; ++m) EXPECT_EQ(e4m3_value(static_cast<std::uint8_t>(m)), plain_e4m3(m)) << m;
  EXPECT_TRUE(std::isnan(e4m3_value(0x7F)));
  EXPECT_EQ(minifloat_levels(8).size(), 254u);
  EXPECT_EQ(minifloat_levels(8).back(), 448.0f);
}

TEST(Minifloat, IndicesAndPatternsAreOneToOne) {
  for (const int bits : {4, 8})
    for (int i = 0; i < static_cast<int>(minifloat_levels(bits).size()); ++i) {
      const std::uint8_t pattern = minifloat_pattern(bits, i);
      EXPECT_EQ(minifloat_index(bits, pattern), i);
      const float level = minifloat_levels(bits)[static_cast<std::size_t>(i)];
      EXPECT_EQ(std::signbit(level), (pattern >> (bits - 1)) == 1);
      if (bits == 4) continue;
      EXPECT_EQ(std::fabs(level), plain_e4m3(pattern & 0x7F));
    }
  EXPECT_THROW(minifloat_index(8, 0xFF), Error);
}

TEST(Minifloat, NearestE4m3IsNearestWithTiesToEven) {
  for (int m = 0; m < 126; ++m) {
    const double low = plain_e4m3(m), high = plain_e4m3(m + 1);
    const auto at = [&](double part) { return nearest_e4m3(static_cast<float>(low + part * (high - low))); };
    EXPECT_EQ(at(0), m);
    EXPECT_EQ(at(0.49), m);
    EXPECT_EQ(at(0.5), m % 2 == 0 ? m : m + 1);
    EXPECT_EQ(at(0.51), m + 1);
  }
  EXPECT_EQ(nearest_e4m3(1e9f), 0x7E);
  EXPECT_EQ(nearest_e4m3(-1.0f), 0);
  EXPECT_EQ(nearest_e4m3(NAN), 0);
}

/// compressed-tensors and NVIDIA: 0.5, -1, 6, -0 are the bytes A1 87.
TEST(Minifloat, NibblesAreInTheOrderOfTheFormats) {
  const auto grid = grid_from_name("nvfp4");
  Encoding encoding(grid, {1, 16});
  const std::array<std::byte, 1> one{std::byte{0x60}};  // 16 * 2^... : any step will do
  encoding.set_side(0, 0, one);
  const float step = encoding.group(0, 0).step;
  const std::array<float, 4> elements{0.5f, -1, 6, -0.0f};
  std::vector<float> weights(16, 0.0f);
  for (std::size_t i = 0; i < 4; ++i) weights[i] = elements[i] * step;
  encoding.round_row(0, weights);
  encoding.codes(0)[3] = static_cast<std::int16_t>(minifloat_index(4, 8));
  const auto stored = std::dynamic_pointer_cast<const QuantizedTensor>(encoding.finish());
  const MinifloatMatrix matrix = unpack_minifloats(*stored);
  EXPECT_EQ(matrix.codes[0], std::byte{0xA1});
  EXPECT_EQ(matrix.codes[1], std::byte{0x87});
  EXPECT_EQ(matrix.scales[0], std::byte{0x60});
  EXPECT_EQ(stored->payload()[1], std::byte{0xA1});  // scales first, then codes
}

TEST(Minifloat, NamesAreFoundAgainAndOthersRefused) {
  for (const char* name : {"fp8", "fp8 g128", "mxfp8", "nvfp4", "nvfp4 / 2816.5", "gguf/mxfp4"})
    EXPECT_EQ(grid_from_name(name)->name(), name);
  for (const char* name : {"fp8 g0", "fp8 g1", "fp8 g", "fp8 128", "nvfp4 / 512", "nvfp4 / -1", "nvfp4 / nan",
                           "nvfp4 / 0", "nvfp4 / 1e999", "fp8 g99999999", "mxfp4"})
    EXPECT_THROW(grid_from_name(name), Error) << name;
  EXPECT_THROW(make_grid({"fp8", std::nullopt, "tensor", std::nullopt, "f16"}), Error);
  EXPECT_THROW(make_grid({"nvfp4", 16, "group", std::nullopt, "f16"}), Error);
}

/// Sizes of foreign manifests, before anything else is known of a tensor.
TEST(Minifloat, FormatsOfNoColumnsAndOfTooManyRowsAreRefused) {
  for (const char* format : {"fp8", "int4 channel sym", "mxfp8", "planes 4 of int8 channel sym", "pivoted fp8",
                             "int4 channel sym, 2:4", "gguf/q4_k"})
    EXPECT_THROW(format_bytes(format, {4, format == std::string("pivoted fp8") ? 4U : 0U}), Error) << format;
  EXPECT_THROW(format_bytes("int8 channel sym", {std::size_t{1} << 62, 2}), Error);
}

TEST(Minifloat, MatricesAreTakenApartAndPutTogether) {
  for (const char* name : {"fp8", "fp8 g64", "mxfp8", "nvfp4", "nvfp4 / 2816.5", "gguf/mxfp4"}) {
    const auto grid = grid_from_name(name);
    const auto stored = std::dynamic_pointer_cast<const QuantizedTensor>(
        encode(grid, random_weights({7, 128}, name), ScaleRule::search).finish());
    const MinifloatMatrix matrix = unpack_minifloats(*stored);
    const auto again = pack_minifloats(matrix);
    EXPECT_EQ(again->format(), name);
    EXPECT_THAT(again->payload(), testing::ElementsAreArray(stored->payload())) << name;
    MinifloatMatrix wrong = matrix;
    wrong.scales.pop_back();
    EXPECT_THROW(pack_minifloats(wrong), Error);
    wrong = matrix;
    std::ranges::fill(wrong.scales, std::byte{0xFF});
    EXPECT_THROW(pack_minifloats(wrong), Error) << name;
    if (matrix.spec.bits != 8) continue;
    wrong = matrix;
    wrong.codes[3] = std::byte{0x7F};
    EXPECT_THROW(pack_minifloats(wrong), Error) << name;
  }
}

/// sum (w - value)^2 of a group with every stored scale there is.
double least_nvfp4_error(std::span<const float> weights) {
  double least = INFINITY;
  for (int code = 1; code < 127; ++code) {
    const double step = plain_e4m3(code) / kNvfp4Divisor;
    double sum = 0;
    for (const float w : weights) {
      double nearest = INFINITY;
      for (const double element : {0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0})
        nearest = std::min(nearest, std::fabs(std::fabs(double{w}) - step * element));
      sum += nearest * nearest;
    }
    least = std::min(least, sum);
  }
  return least;
}

TEST(Minifloat, Nvfp4SearchFindsTheBestStoredScale) {
  const MatrixF weights = random_weights({200, 16}, "nvfp4");
  const Encoding encoding = encode(grid_from_name("nvfp4"), weights, ScaleRule::search);
  std::size_t best = 0;
  for (std::size_t r = 0; r < 200; ++r) {
    double sum = 0;
    for (std::size_t c = 0; c < 16; ++c) sum += std::pow(double{weights(r, c)} - encoding.value(r, c), 2);
    const double least = least_nvfp4_error(weights.row(r));
    EXPECT_GE(sum, least * (1 - 1e-5));
    best += sum <= least * (1 + 1e-5);
  }
  EXPECT_GE(best, 195u);
}

/// Rounding to three digits after the first: the relative error of a value is uniform within 2^-4 of its binade, and
/// values are about uniform within binades: E[e^2] / E[w^2] = (2^-3)^2 / 12 * 3/7 * ... about 7e-4.
TEST(Minifloat, EightBitsLoseWhatThreeDigitsLose) {
  for (const char* name : {"fp8", "mxfp8"}) {
    const MatrixF weights = random_weights({64, 512}, name);
    const MatrixF decoded = encode(grid_from_name(name), weights, ScaleRule::minmax).finish()->decode();
    double power = 0;
    for (const float w : weights.values()) power += double{w} * w;
    const double relative = grid_testing::squared_error(weights, decoded) / power;
    EXPECT_GT(relative, 5e-4) << name;
    EXPECT_LT(relative, 9e-4) << name;
  }
}

TEST(Minifloat, LargeWeightsOfNvfp4AreClippedNotLost) {
  MatrixF weights(Shape{1, 16});
  for (float& w : weights.values()) w = 40.0f;
  const MatrixF decoded = encode(grid_from_name("nvfp4"), weights, ScaleRule::search).finish()->decode();
  for (const float value : decoded.values()) EXPECT_EQ(value, 5.25f);
}

}  // namespace
}  // namespace adze
