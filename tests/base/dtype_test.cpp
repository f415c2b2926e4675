// Element types, and the scalar conversions against every 16-bit pattern and every tie between two of them.
#include "base/dtype.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

#include <gtest/gtest.h>

namespace adze {
namespace {

constexpr std::uint32_t kPatterns = 65536;

/// IEEE 754 binary16, from its definition.
double half_value(std::uint16_t bits) {
  const int exponent = (bits >> 10) & 0x1F;
  const int mantissa = bits & 0x3FF;
  const double sign = (bits & 0x8000) != 0 ? -1.0 : 1.0;
  if (exponent == 31) return mantissa == 0 ? sign * INFINITY : NAN;
  if (exponent == 0) return sign * std::ldexp(mantissa, -24);
  return sign * std::ldexp(1024 + mantissa, exponent - 25);
}

/// The next pattern away from zero, of a finite value.
std::uint16_t next_pattern(std::uint16_t bits) { return static_cast<std::uint16_t>(bits + 1); }

/// Tests one 16-bit type: every value there and back, and the halfway point above each value with its two neighbours.
template <typename ToFloat, typename FromFloat>
void check_rounding(ToFloat to_float, FromFloat from_float) {
  for (std::uint32_t pattern = 0; pattern < kPatterns; ++pattern) {
    const auto bits = static_cast<std::uint16_t>(pattern);
    const float value = to_float(bits);
    if (std::isnan(value)) {
      ASSERT_TRUE(std::isnan(to_float(from_float(value)))) << pattern;
      continue;
    }
    ASSERT_EQ(from_float(value), bits) << pattern;
    const float above = to_float(next_pattern(bits));
    if (!std::isfinite(value) || !std::isfinite(above)) continue;
    const float middle = value + (above - value) / 2;  // exact: one more bit than the type has
    const std::uint16_t even = (bits & 1) == 0 ? bits : next_pattern(bits);
    ASSERT_EQ(from_float(middle), even) << pattern;
    ASSERT_EQ(from_float(std::nextafterf(middle, value)), bits) << pattern;
    ASSERT_EQ(from_float(std::nextafterf(middle, above)), next_pattern(bits)) << pattern;
  }
}

TEST(Half, EveryPatternHasTheValueOfItsDefinition) {
  for (std::uint32_t pattern = 0; pattern < kPatterns; ++pattern) {
    const auto bits = static_cast<std::uint16_t>(pattern);
    const double expected = half_value(bits);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(f16_to_float(bits))) << pattern;
    } else {
      ASSERT_EQ(f16_to_float(bits), expected) << pattern;
      ASSERT_EQ(std::signbit(f16_to_float(bits)), (bits & 0x8000) != 0) << pattern;
    }
  }
}

TEST(Half, EveryPatternComesBackAndTiesGoToTheEvenOne) { check_rounding(&f16_to_float, &float_to_f16); }

TEST(Half, OverflowsFrom65520On) {
  EXPECT_EQ(float_to_f16(65504.0f), 0x7BFF);
  EXPECT_EQ(float_to_f16(std::nextafterf(65520.0f, 0.0f)), 0x7BFF);
  EXPECT_EQ(float_to_f16(65520.0f), 0x7C00);
  EXPECT_EQ(float_to_f16(-1e30f), 0xFC00);
  EXPECT_EQ(float_to_f16(INFINITY), 0x7C00);
}

TEST(Half, UnderflowsToZeroOfTheSameSign) {
  EXPECT_EQ(float_to_f16(0x1p-25f), 0x0000);  // a tie with zero
  EXPECT_EQ(float_to_f16(std::nextafterf(0x1p-25f, 1.0f)), 0x0001);
  EXPECT_EQ(float_to_f16(-1e-30f), 0x8000);
  EXPECT_EQ(float_to_f16(std::numeric_limits<float>::denorm_min()), 0x0000);
}

TEST(Half, NotANumberStaysThatWithItsSign) {
  EXPECT_EQ(float_to_f16(std::bit_cast<float>(0x7F800001u)), 0x7E00);  // signalling, payload in the low bits only
  EXPECT_EQ(float_to_f16(std::bit_cast<float>(0xFFC00000u)), 0xFE00);
}

TEST(Bfloat16, EveryPatternIsTheUpperHalfOfAFloat) {
  for (std::uint32_t pattern = 0; pattern < kPatterns; ++pattern)
    ASSERT_EQ(std::bit_cast<std::uint32_t>(bf16_to_float(static_cast<std::uint16_t>(pattern))), pattern << 16);
}

TEST(Bfloat16, EveryPatternComesBackAndTiesGoToTheEvenOne) { check_rounding(&bf16_to_float, &float_to_bf16); }

TEST(Bfloat16, TheLargestFloatRoundsToInfinity) {
  EXPECT_EQ(float_to_bf16(std::numeric_limits<float>::max()), 0x7F80);
  EXPECT_EQ(float_to_bf16(-std::numeric_limits<float>::max()), 0xFF80);
}

TEST(Bfloat16, NotANumberNeverBecomesInfinity) {
  EXPECT_EQ(float_to_bf16(std::bit_cast<float>(0x7F800001u)), 0x7FC0);
  EXPECT_EQ(float_to_bf16(std::bit_cast<float>(0xFFFFFFFFu)), 0xFFFF);
}

TEST(DType, NamesAndSizesAgree) {
  constexpr DType kAll[] = {DType::f64, DType::f32, DType::f16, DType::bf16, DType::i64, DType::i32,    DType::i16,
                            DType::i8,  DType::u64, DType::u32, DType::u16,  DType::u8,  DType::boolean};
  for (const DType dtype : kAll) {
    const std::string name(name_of(dtype));
    EXPECT_EQ(dtype_from_name(name), dtype);
    const std::size_t digits = name.find_first_of("0123456789");
    const std::uint64_t bits = digits == std::string::npos ? 8 : std::stoull(name.substr(digits));
    EXPECT_EQ(bytes_of(dtype), bits / 8) << name;
  }
  EXPECT_EQ(dtype_from_name("F32"), std::nullopt);
  EXPECT_EQ(dtype_from_name(""), std::nullopt);
  EXPECT_TRUE(is_weight_dtype(DType::bf16));
  EXPECT_FALSE(is_weight_dtype(DType::f64));
}

}  // namespace
}  // namespace adze
