#include "checkpoint/safetensors_types.h"

#include <array>

#include "base/checked.h"

namespace adze {
namespace {

using enum SafetensorsType;

struct TypeInfo {
  SafetensorsType type;
  std::string_view name;
  std::uint64_t bits;
  std::optional<DType> dtype;
};

constexpr std::array kTypes{TypeInfo{boolean, "BOOL", 8, DType::boolean},
                            TypeInfo{f4, "F4", 4, {}},
                            TypeInfo{f6_e2m3, "F6_E2M3", 6, {}},
                            TypeInfo{f6_e3m2, "F6_E3M2", 6, {}},
                            TypeInfo{u8, "U8", 8, DType::u8},
                            TypeInfo{i8, "I8", 8, DType::i8},
                            TypeInfo{f8_e5m2, "F8_E5M2", 8, {}},
                            TypeInfo{f8_e4m3, "F8_E4M3", 8, {}},
                            TypeInfo{f8_e8m0, "F8_E8M0", 8, {}},
                            TypeInfo{f8_e4m3fnuz, "F8_E4M3FNUZ", 8, {}},
                            TypeInfo{f8_e5m2fnuz, "F8_E5M2FNUZ", 8, {}},
                            TypeInfo{i16, "I16", 16, DType::i16},
                            TypeInfo{u16, "U16", 16, DType::u16},
                            TypeInfo{f16, "F16", 16, DType::f16},
                            TypeInfo{bf16, "BF16", 16, DType::bf16},
                            TypeInfo{i32, "I32", 32, DType::i32},
                            TypeInfo{u32, "U32", 32, DType::u32},
                            TypeInfo{f32, "F32", 32, DType::f32},
                            TypeInfo{c64, "C64", 64, {}},
                            TypeInfo{f64, "F64", 64, DType::f64},
                            TypeInfo{i64, "I64", 64, DType::i64},
                            TypeInfo{u64, "U64", 64, DType::u64}};

constexpr bool table_is_in_enum_order() {
  for (std::size_t i = 0; i < kTypes.size(); ++i)
    if (static_cast<std::size_t>(kTypes[i].type) != i) return false;
  return true;
}
static_assert(table_is_in_enum_order());

constexpr std::uint64_t kMaxDimension = (std::uint64_t{1} << 48) - 1;  // the published JSON schema's cap

const TypeInfo& info_of(SafetensorsType type) { return kTypes[static_cast<std::size_t>(type)]; }

}  // namespace

std::string_view name_of(SafetensorsType type) { return info_of(type).name; }
std::optional<DType> dtype_of(SafetensorsType type) { return info_of(type).dtype; }

std::optional<SafetensorsType> safetensors_type_from_name(std::string_view name) {
  for (const TypeInfo& info : kTypes)
    if (info.name == name) return info.type;
  return std::nullopt;
}

SafetensorsType safetensors_type_of(DType dtype) {
  for (const TypeInfo& info : kTypes)
    if (info.dtype == dtype) return info.type;
  fail(ErrorKind::internal, "dtype {} has no safetensors type", adze::name_of(dtype));
}

std::uint64_t safetensors_bytes(SafetensorsType type, std::span<const std::uint64_t> shape) {
  for (const std::uint64_t dim : shape)
    if (dim > kMaxDimension) fail(ErrorKind::bad_data, "dimension {} is above the limit of {}", dim, kMaxDimension);
  const std::uint64_t bits = checked_mul(checked_product(shape), info_of(type).bits);
  if (bits % 8 != 0) fail(ErrorKind::bad_data, "{} bits of {} are not a whole number of bytes", bits, name_of(type));
  return bits / 8;
}

}  // namespace adze
