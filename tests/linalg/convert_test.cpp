#include "linalg/convert.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace adze {
namespace {

constexpr std::size_t kPatterns = 65536;

/// All 16-bit patterns in order.
std::vector<std::uint16_t> all_patterns() {
  std::vector<std::uint16_t> patterns(kPatterns);
  std::iota(patterns.begin(), patterns.end(), std::uint16_t{0});
  return patterns;
}

float one_to_float(DType dtype, std::uint16_t bits) {
  return dtype == DType::bf16 ? bf16_to_float(bits) : f16_to_float(bits);
}

bool same(float a, float b) {
  return (std::isnan(a) && std::isnan(b) && std::signbit(a) == std::signbit(b)) ||
         std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
}

TEST(Convert, EveryPatternOf16BitsBecomesTheFloatThatOneConversionGives) {
  const std::vector<std::uint16_t> patterns = all_patterns();
  for (const DType dtype : {DType::bf16, DType::f16}) {
    std::vector<float> out(kPatterns);
    to_float(dtype, std::as_bytes(std::span(patterns)), out);
    for (std::size_t i = 0; i < kPatterns; ++i)
      ASSERT_TRUE(same(out[i], one_to_float(dtype, patterns[i]))) << name_of(dtype) << " pattern " << i;
  }
}

TEST(Convert, EveryPatternThatIsNoNanComesBack) {
  const std::vector<std::uint16_t> patterns = all_patterns();
  for (const DType dtype : {DType::bf16, DType::f16}) {
    std::vector<float> floats(kPatterns);
    to_float(dtype, std::as_bytes(std::span(patterns)), floats);
    std::vector<std::uint16_t> back(kPatterns);
    from_float(dtype, floats, std::as_writable_bytes(std::span(back)));
    for (std::size_t i = 0; i < kPatterns; ++i) {
      if (std::isnan(floats[i])) {
        ASSERT_TRUE(std::isnan(one_to_float(dtype, back[i]))) << i;
      } else {
        ASSERT_EQ(back[i], patterns[i]) << name_of(dtype);
      }
    }
  }
}

TEST(Convert, RoundsHalfWayToTheEvenNeighbour) {
  for (const DType dtype : {DType::bf16, DType::f16})
    for (const std::uint16_t even : {0x3C00, 0x3C02, 0x0002, 0x8002, 0x1234}) {
      const auto next = static_cast<std::uint16_t>(even + 1);
      const float middle = (one_to_float(dtype, even) + one_to_float(dtype, next)) / 2;
      for (const float value : {middle, std::nextafter(middle, one_to_float(dtype, next))}) {
        std::uint16_t bits = 0;
        from_float(dtype, {&value, 1}, std::as_writable_bytes(std::span(&bits, 1)));
        EXPECT_EQ(bits, value == middle ? even : next) << name_of(dtype) << " " << even;
      }
    }
}

TEST(Convert, WorksForEveryLengthAndAddress) {
  for (const DType dtype : {DType::bf16, DType::f16, DType::f32})
    for (const std::size_t offset : {0, 1, 2, 3, 5})
      for (std::size_t count = 0; count < 70; ++count) {
        std::vector<float> values(count);
        for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<float>(i) - 8.5f;
        std::vector<std::byte> memory(offset + count * bytes_of(dtype) + 8, std::byte{0xEE});
        const auto stored = std::span(memory).subspan(offset, count * bytes_of(dtype));
        from_float(dtype, values, stored);
        std::vector<float> back(count + 2, -1.0f);
        to_float(dtype, stored, std::span(back).subspan(1, count));
        for (std::size_t i = 0; i < count; ++i) ASSERT_EQ(back[i + 1], values[i]) << name_of(dtype) << " " << count;
        ASSERT_EQ(back.front(), -1.0f);  // nothing beside the range is touched
        ASSERT_EQ(back.back(), -1.0f);
        for (std::size_t i = 0; i < 8; ++i) ASSERT_EQ(memory[memory.size() - 1 - i], std::byte{0xEE});
      }
}

TEST(Convert, LongArraysAreConvertedPieceByPiece) {
  for (const std::size_t count : {1023, 1024, 1025, 5000}) {
    std::vector<std::uint16_t> bits(count);
    for (std::size_t i = 0; i < count; ++i) bits[i] = static_cast<std::uint16_t>(0x3C00 + i % 1000);
    std::vector<float> out(count);
    to_float(DType::f16, std::as_bytes(std::span(bits)), out);
    for (std::size_t i = 0; i < count; ++i) ASSERT_EQ(out[i], f16_to_float(bits[i])) << i;
  }
}

TEST(Convert, RefusesOtherTypesAndSizesThatDoNotFit) {
  std::vector<float> floats(3);
  std::vector<std::byte> bytes(7);
  const auto expect_internal = [](auto&& body, const char* message) {
    try {
      body();
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::internal);
      EXPECT_STREQ(error.what(), message);
    }
  };
  expect_internal([&] { to_float(DType::bf16, bytes, floats); }, "conversion of 7 bytes of bf16 to or from 3 floats");
  expect_internal([&] { from_float(DType::f16, floats, bytes); }, "conversion of 7 bytes of f16 to or from 3 floats");
  bytes.resize(24);
  expect_internal([&] { to_float(DType::f64, bytes, floats); }, "conversion of 24 bytes of f64 to or from 3 floats");
}

TEST(AllFinite, FindsOneBadValueAtEveryPosition) {
  for (const float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::quiet_NaN()})
    for (std::size_t count = 1; count < 70; ++count) {
      std::vector<float> values(count, std::numeric_limits<float>::max());
      ASSERT_TRUE(all_finite(values)) << count;
      for (std::size_t at = 0; at < count; ++at) {
        values[at] = bad;
        ASSERT_FALSE(all_finite(values)) << at << " of " << count;
        values[at] = std::numeric_limits<float>::denorm_min();
      }
    }
  EXPECT_TRUE(all_finite({}));
}

TEST(KernelName, NamesInstructionSetAndBlasKernel) {
  EXPECT_THAT(kernel_name(), ::testing::MatchesRegex("[A-Za-z0-9_]+/[A-Za-z0-9_]+"));
}

}  // namespace
}  // namespace adze
