#include "base/dtype.h"

#include <array>

namespace adze {
namespace {

struct DTypeInfo {
  DType dtype;
  std::string_view name;
  std::uint64_t bytes;
};

constexpr std::array kDTypes{
    DTypeInfo{DType::f64, "f64", 8},   DTypeInfo{DType::f32, "f32", 4}, DTypeInfo{DType::f16, "f16", 2},
    DTypeInfo{DType::bf16, "bf16", 2}, DTypeInfo{DType::i64, "i64", 8}, DTypeInfo{DType::i32, "i32", 4},
    DTypeInfo{DType::i16, "i16", 2},   DTypeInfo{DType::i8, "i8", 1},   DTypeInfo{DType::u64, "u64", 8},
    DTypeInfo{DType::u32, "u32", 4},   DTypeInfo{DType::u16, "u16", 2}, DTypeInfo{DType::u8, "u8", 1},
    DTypeInfo{DType::boolean, "bool", 1}};

constexpr bool table_is_in_enum_order() {
  for (std::size_t i = 0; i < kDTypes.size(); ++i)
    if (static_cast<std::size_t>(kDTypes[i].dtype) != i) return false;
  return true;
}
static_assert(table_is_in_enum_order());

}  // namespace

std::string_view name_of(DType dtype) { return kDTypes[static_cast<std::size_t>(dtype)].name; }
std::uint64_t bytes_of(DType dtype) { return kDTypes[static_cast<std::size_t>(dtype)].bytes; }

std::optional<DType> dtype_from_name(std::string_view name) {
  for (const DTypeInfo& info : kDTypes)
    if (info.name == name) return info.dtype;
  return std::nullopt;
}

float f16_to_float(std::uint16_t bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000) << 16;
  const std::uint32_t exponent = (bits >> 10) & 0x1F;
  const std::uint32_t mantissa = bits & 0x3FF;
  if (exponent == 0x1F) return std::bit_cast<float>(sign | 0x7F800000 | (mantissa << 13));
  if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;  // subnormal: exact in float
  return sign ? -magnitude : magnitude;
}

std::uint16_t float_to_f16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000);
  const std::uint32_t magnitude = bits & 0x7FFFFFFF;
  if (magnitude > 0x7F800000) return static_cast<std::uint16_t>(sign | 0x7E00);
  if (magnitude >= 0x477FF000) return static_cast<std::uint16_t>(sign | 0x7C00);  // rounds to 65536 or is infinite
  if (magnitude < 0x38800000) {  // below 2^-14: the sum below rounds at 2^-24, the subnormal step
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3F000000));
  }
  const std::uint32_t rounded = magnitude + 0xFFF + ((magnitude >> 13) & 1);
  return static_cast<std::uint16_t>(sign | ((rounded - 0x38000000) >> 13));
}

}  // namespace adze
