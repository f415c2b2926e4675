#include "grid/minifloat/minifloat.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "base/error.h"

namespace adze {
namespace {

constexpr int kE8m0Bias = 127;
constexpr std::uint8_t kE8m0NotANumber = 255;
constexpr std::size_t kE4m3Magnitudes = 127;

constexpr std::array<float, 8> kE2m1Magnitudes{0, 0.5f, 1, 1.5f, 2, 3, 4, 6};

/// Subnormals count in 2^-9; normal numbers are (1 + m / 8) 2^(e - 7).
constexpr std::array<float, kE4m3Magnitudes> kE4m3 = [] {
  std::array<float, kE4m3Magnitudes> all{};
  for (int code = 0; code < static_cast<int>(kE4m3Magnitudes); ++code) {
    const int exponent = code >> 3, mantissa = code & 7;
    float value = static_cast<float>(exponent == 0 ? mantissa : 8 + mantissa);
    for (int e = std::max(exponent, 1); e > 10; --e) value *= 2.0f;
    for (int e = std::max(exponent, 1); e < 10; ++e) value *= 0.5f;
    all[static_cast<std::size_t>(code)] = value;
  }
  return all;
}();

template <std::size_t kCount>
constexpr std::array<float, 2 * kCount> with_signs(const std::array<float, kCount>& magnitudes) {
  std::array<float, 2 * kCount> all{};
  for (std::size_t i = 0; i < kCount; ++i) {
    all[kCount - 1 - i] = -magnitudes[i];
    all[kCount + i] = magnitudes[i];
  }
  return all;
}
constexpr auto kE4m3Levels = with_signs(kE4m3);
constexpr auto kE2m1Levels = with_signs(kE2m1Magnitudes);

int magnitudes_of(int bits) { return bits == 8 ? static_cast<int>(kE4m3Magnitudes) : 8; }

/// "g128": the number after a letter; nothing for another text.
std::optional<std::size_t> number_after(char letter, std::string_view text) {
  std::size_t number = 0;
  if (!text.starts_with(letter)) return std::nullopt;
  const auto [end, error] = std::from_chars(text.data() + 1, text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

}  // namespace

std::optional<MinifloatSpec> minifloat_spec_from_name(const std::string& name) {
  if (name == "fp8") return MinifloatSpec{};
  if (name == "mxfp8") return MinifloatSpec{8, MinifloatScale::e8m0, 32, 1};
  if (name == "gguf/mxfp4") return MinifloatSpec{4, MinifloatScale::e8m0, 32, 1};
  MinifloatSpec nvfp4{4, MinifloatScale::e4m3, 16, kNvfp4Divisor};
  if (name == "nvfp4") return nvfp4;
  constexpr std::string_view kGroups = "fp8 ", kDivided = "nvfp4 / ";
  if (name.starts_with(kGroups)) {
    const auto group = number_after('g', std::string_view(name).substr(kGroups.size()));
    if (group) return MinifloatSpec{8, MinifloatScale::f32, *group, 1};
  }
  if (name.starts_with(kDivided)) {
    const char* const end = name.data() + name.size();
    const auto [stop, error] = std::from_chars(name.data() + kDivided.size(), end, nvfp4.divisor);
    if (error == std::errc() && stop == end && nvfp4.divisor > 0 && std::isfinite(nvfp4.divisor)) return nvfp4;
  }
  return std::nullopt;
}

std::optional<MinifloatSpec> minifloat_spec_of(const Grid& grid) { return minifloat_spec_from_name(grid.name()); }

std::span<const float> minifloat_levels(int bits) {
  if (bits == 8) return kE4m3Levels;
  return kE2m1Levels;
}

std::uint8_t minifloat_pattern(int bits, int index) {
  const int count = magnitudes_of(bits), sign = 1 << (bits - 1);
  return static_cast<std::uint8_t>(index < count ? sign | (count - 1 - index) : index - count);
}

int minifloat_index(int bits, std::uint8_t pattern) {
  const int count = magnitudes_of(bits), sign = 1 << (bits - 1);
  const int magnitude = pattern & (sign - 1);
  if (magnitude >= count) fail(ErrorKind::bad_data, "an E4M3 value is NaN");
  return (pattern & sign) != 0 ? count - 1 - magnitude : count + magnitude;
}

float e4m3_value(std::uint8_t magnitude) {
  return magnitude < kE4m3Magnitudes ? kE4m3[magnitude] : std::numeric_limits<float>::quiet_NaN();
}

std::uint8_t nearest_e4m3(float value) {
  const auto above = std::ranges::lower_bound(kE4m3, value);
  if (above == kE4m3.begin() || std::isnan(value)) return 0;
  const auto code = static_cast<std::uint8_t>(above - kE4m3.begin());
  if (above == kE4m3.end()) return static_cast<std::uint8_t>(kE4m3Magnitudes - 1);
  const float up = *above - value, down = value - *(above - 1);
  const bool stays = up < down || (up == down && code % 2 == 0);
  return stays ? code : static_cast<std::uint8_t>(code - 1);
}

float e8m0_value(std::uint8_t exponent) {
  if (exponent == kE8m0NotANumber) return std::numeric_limits<float>::quiet_NaN();
  return std::ldexp(1.0f, exponent - kE8m0Bias);
}

std::uint8_t nearest_e8m0(float value, float largest) {
  const int most = kE8m0Bias + 127 - std::ilogb(largest);
  if (!(value > 0)) return 0;
  if (std::isinf(value)) return static_cast<std::uint8_t>(most);
  const int lower = std::ilogb(value);
  const bool up = std::ldexp(value, -lower) > 1.5f;
  return static_cast<std::uint8_t>(std::clamp(lower + (up ? 1 : 0) + kE8m0Bias, 0, most));
}

}  // namespace adze
