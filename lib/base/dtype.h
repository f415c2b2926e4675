// Element types of stored tensors, and exact scalar conversions between them and float.
// Sub-byte and packed types are not dtypes: they are grids (grid/).
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string_view>

namespace adze {

enum class DType : std::uint8_t { f64, f32, f16, bf16, i64, i32, i16, i8, u64, u32, u16, u8, boolean };

/// Lower-case name as used in recipes, stores and messages ("bf16").
std::string_view name_of(DType dtype);
std::optional<DType> dtype_from_name(std::string_view name);
std::uint64_t bytes_of(DType dtype);
/// True for the types that weights may have: f32, f16, bf16.
constexpr bool is_weight_dtype(DType dtype) {
  return dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16;
}

inline float bf16_to_float(std::uint16_t bits) { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }

/// Round to nearest even; NaN stays NaN (made quiet).
inline std::uint16_t float_to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (std::isnan(value)) return static_cast<std::uint16_t>((bits >> 16) | 0x40);
  return static_cast<std::uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

float f16_to_float(std::uint16_t bits);
/// Round to nearest even; a magnitude of 65520 or more becomes infinity.
std::uint16_t float_to_f16(float value);

}  // namespace adze
