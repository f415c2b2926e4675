#include "linalg/rounding.h"

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "linalg/linalg_testing.h"

namespace adze {
namespace {

using testing::random_matrix;

constexpr std::size_t kMostLanes = 67;  // beyond twice the widest vector, and odd

std::vector<float> random_row(std::size_t count, std::string_view name, float scale = 1.0f) {
  const MatrixF row = random_matrix<float>({1, count}, name);
  std::vector<float> values(row.values().begin(), row.values().end());
  for (float& value : values) value *= scale;
  return values;
}

std::vector<float> magnitudes(std::size_t count, std::string_view name) {
  std::vector<float> values = random_row(count, name);
  for (float& value : values) value = std::fabs(value);
  return values;
}

float plain_code(float scaled, float lo, float hi) { return std::nearbyint(std::clamp(scaled, lo, hi)); }

TEST(RoundHalfEven, IsNearbyint) {
  for (int i = -1000; i <= 1000; ++i) {
    const float x = static_cast<float>(i) / 8;  // quarters, eighths and all ties between -125 and 125
    EXPECT_EQ(round_half_even(x), std::nearbyint(x)) << x;
  }
  for (const float x : {4194303.5f, -4194303.5f, 2097151.5f, 0.49999997f})
    EXPECT_EQ(round_half_even(x), std::nearbyint(x));
}

TEST(RoundToGrid, IsThePlainLoopForEveryLength) {
  for (std::size_t n = 0; n <= kMostLanes; ++n) {
    const std::vector<float> x = random_row(n, "x", 3.0f);
    std::vector<float> step = magnitudes(n, "step");
    for (std::size_t i = 0; i < n; i += 5) step[i] = -step[i];  // grids may have negative steps
    const std::vector<float> offset = random_row(n, "offset");
    const std::vector<float> lo(n, -4.0f);
    const std::vector<float> hi(n, 3.0f);
    std::vector<std::int16_t> codes(n + 1, 77);
    std::vector<float> values(n + 1, 77.0f);
    round_to_grid(x, {step, offset, lo, hi}, std::span(codes).first(n), std::span(values).first(n));
    for (std::size_t i = 0; i < n; ++i) {
      const float code = plain_code((x[i] - offset[i]) / step[i], -4.0f, 3.0f);
      ASSERT_EQ(codes[i], static_cast<std::int16_t>(code)) << i << " of " << n;
      ASSERT_EQ(values[i], step[i] * code + offset[i]) << i << " of " << n;
    }
    ASSERT_EQ(codes[n], 77);
    ASSERT_EQ(values[n], 77.0f);
  }
}

TEST(RoundToGrid, TiesGoToTheEvenCode) {
  const std::vector<float> x = {0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 6.5f, 7.5f};
  const std::vector<std::int16_t> expected = {0, 2, 2, 0, -2, -2, 6, 7};  // the last is clamped
  const std::vector<float> one(8, 1.0f), zero(8, 0.0f), lo(8, -8.0f), hi(8, 7.0f);
  std::vector<std::int16_t> codes(8);
  std::vector<float> values(8);
  round_to_grid(x, {one, zero, lo, hi}, codes, values);
  EXPECT_EQ(codes, expected);
}

TEST(RoundToGrid, AStepOfZeroGivesTheCodeNearestToZero) {
  const std::vector<float> x = {5.0f, -5.0f, 0.0f, 1e30f};
  const std::vector<float> step(4, 0.0f);
  const std::vector<float> offset = {0.0f, 1.0f, -2.0f, 0.5f};
  const std::vector<float> lo = {-8.0f, 2.0f, -8.0f, 0.0f};
  const std::vector<float> hi = {7.0f, 5.0f, -3.0f, 15.0f};
  std::vector<std::int16_t> codes(4);
  std::vector<float> values(4);
  round_to_grid(x, {step, offset, lo, hi}, codes, values);
  EXPECT_EQ(codes, (std::vector<std::int16_t>{0, 2, -3, 0}));
  EXPECT_EQ(values, offset);
}

const std::vector<float> kUneven = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

/// The plain search: the last of the nearest levels.
std::int16_t nearest_level(double scaled, const std::vector<float>& levels) {
  std::size_t best = 0;
  for (std::size_t k = 1; k < levels.size(); ++k)
    if (std::fabs(scaled - levels[k]) <= std::fabs(scaled - levels[best])) best = k;
  return static_cast<std::int16_t>(best);
}

/// Levels ever farther apart on both sides of two zeros, as small floats have them; an odd count has one more above.
std::vector<float> many_levels(std::size_t count) {
  std::vector<float> levels;
  for (std::size_t k = count / 2; k-- > 0;) levels.push_back(-0.01f * static_cast<float>(k * k));
  for (std::size_t k = 0; k < count - count / 2; ++k) levels.push_back(0.01f * static_cast<float>(k * k));
  return levels;
}

/// Codebooks that are searched by bisection, at and beyond their ends too.
TEST(RoundToCodebook, FindsNoLevelBeyondTheLast) {
  for (const std::size_t count : {std::size_t{33}, std::size_t{34}, std::size_t{254}, std::size_t{255}, kMostLevels}) {
    const std::vector<float> levels = many_levels(count);
    std::vector<float> x{INFINITY, -INFINITY, 1e6f, -1e6f, 0.0f, levels.back(), levels.front(), 1e-30f};
    for (const float level : levels) x.insert(x.end(), {level, std::nextafter(level, 1e9f), level + 0.3f});
    std::vector<std::int16_t> codes(x.size());
    round_to_levels(x, 1.0f, -0.0f, levels, codes);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const bool is_inf = std::isinf(x[i]);
      const auto last = static_cast<std::int16_t>(count - 1);
      ASSERT_EQ(codes[i], is_inf ? (x[i] > 0 ? last : 0) : nearest_level(x[i], levels)) << count << ": " << x[i];
    }
    const std::vector<float> tiny(x.size(), 0x1p-127f), none(x.size(), -0.0f);
    std::vector<float> values(x.size());
    round_to_codebook(x, {tiny, none, {}, {}}, levels, codes, values);  // steps so small that quotients overflow
    for (const std::int16_t code : codes) ASSERT_LT(static_cast<std::size_t>(code), count);
  }
}

TEST(RoundToCodebook, IsThePlainSearchForEveryLengthAndSign) {
  const std::vector<std::vector<float>> codebooks = {
      kUneven, {-1.5f, -0.0f, 0.0f, 0.25f}, {2.0f}, many_levels(254), many_levels(40)};
  for (std::size_t n = 0; n <= kMostLanes; ++n) {
    const std::vector<float>& levels = codebooks[n % codebooks.size()];
    const std::vector<float> x = random_row(n, "x", 3.0f);
    std::vector<float> step = magnitudes(n, "step");
    for (std::size_t i = 0; i < n; i += 5) step[i] = -step[i];
    const std::vector<float> offset = random_row(n, "offset");
    std::vector<std::int16_t> codes(n + 1, 77);
    std::vector<float> values(n + 1, 77.0f);
    round_to_codebook(x, {step, offset, {}, {}}, levels, std::span(codes).first(n), std::span(values).first(n));
    for (std::size_t i = 0; i < n; ++i) {
      ASSERT_EQ(codes[i], nearest_level((x[i] - offset[i]) / step[i], levels)) << i << " of " << n;
      ASSERT_EQ(values[i], step[i] * levels[static_cast<std::size_t>(codes[i])] + offset[i]) << i << " of " << n;
    }
    ASSERT_EQ(codes[n], 77);
    ASSERT_EQ(values[n], 77.0f);
  }
}

TEST(RoundToCodebook, TiesGoToTheUpperLevelAndAStepOfZeroToTheLevelNearestZero) {
  const std::vector<float> x = {-4.5f, 7.0f, -115.5f, 5.0f, 1e30f, -1e30f};
  const std::vector<float> step = {1.0f, 1.0f, 1.0f, 0.0f, 1e-30f, 1e-30f};
  const std::vector<float> offset(6, 0.0f);
  std::vector<std::int16_t> codes(6);
  std::vector<float> values(6);
  round_to_codebook(x, {step, offset, {}, {}}, kUneven, codes, values);
  EXPECT_EQ(codes, (std::vector<std::int16_t>{8, 9, 1, 8, 15, 0}));
  EXPECT_EQ(values[3], 0.0f);
}

TEST(RoundToStep, GivesTheCodesOfRoundToGrid) {
  for (std::size_t n = 0; n <= kMostLanes; ++n)
    for (const float step : {0.3f, -0.2f, 0.0f}) {
      const std::vector<float> x = random_row(n, "x", 3.0f);
      const std::vector<float> steps(n, step), offset(n, 0.1f), lo(n, -8.0f), hi(n, 7.0f);
      std::vector<std::int16_t> expected(n), codes(n + 1, 77);
      std::vector<float> values(n);
      round_to_grid(x, {steps, offset, lo, hi}, expected, values);
      round_to_step(x, step, 0.1f, -8.0f, 7.0f, std::span(codes).first(n));
      expected.push_back(77);
      ASSERT_EQ(codes, expected);
    }
}

TEST(StepValues, AreStepTimesCodePlusOffset) {
  for (std::size_t n = 0; n <= 2 * kMostLanes; ++n) {
    std::vector<std::int16_t> codes(n);
    std::vector<float> expected(n), values(n + 1, 77.0f);
    for (std::size_t i = 0; i < n; ++i) {
      codes[i] = static_cast<std::int16_t>(i * 7919 % 65536 - 32768);
      const float scaled = 0.3f * static_cast<float>(codes[i]);
      expected[i] = scaled + 0.1f;
    }
    step_values(codes, 0.3f, 0.1f, std::span(values).first(n));
    expected.push_back(77.0f);
    ASSERT_EQ(values, expected);
  }
}

TEST(RoundToLevels, GivesTheCodesOfRoundToCodebook) {
  for (std::size_t n = 0; n <= kMostLanes; ++n)
    for (const float step : {0.03f, -0.02f, 0.0f}) {
      const std::vector<float> x = random_row(n, "x", 3.0f);
      const std::vector<float> steps(n, step), offset(n, 0.1f);
      std::vector<std::int16_t> expected(n), codes(n + 1, 77);
      std::vector<float> values(n);
      round_to_codebook(x, {steps, offset, {}, {}}, kUneven, expected, values);
      round_to_levels(x, step, 0.1f, kUneven, std::span(codes).first(n));
      expected.push_back(77);
      ASSERT_EQ(codes, expected);
    }
}

TEST(AddOuter, IsThePlainLoopForEveryLengthAndStride) {
  for (std::size_t n = 0; n <= kMostLanes; ++n) {
    const std::vector<float> a = {1.0f, -0.5f, 0.0f, 3.0f};
    const std::vector<float> x = random_row(n, "x");
    MatrixF y = random_matrix<float>({4, n + 3}, "y");
    const MatrixF start = y;
    add_outer(a, x, y.view().col_range(1, n));
    for (std::size_t r = 0; r < 4; ++r)
      for (std::size_t c = 0; c < n + 3; ++c) {
        const bool inside = c >= 1 && c < n + 1;
        const double expected = start(r, c) + (inside ? static_cast<double>(a[r]) * x[c - 1] : 0.0);
        ASSERT_NEAR(y(r, c), expected, inside ? 1e-6 : 0.0) << n << ": " << r << "," << c;
      }
  }
}

}  // namespace
}  // namespace adze
