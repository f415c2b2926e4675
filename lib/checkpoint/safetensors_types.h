// Element types of safetensors files, in one table: names, widths and the dtypes of ours they correspond to.
// Types without one (fp8, fp4, complex) can be listed, measured and written, but not read as weights.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "base/dtype.h"

namespace adze {

/// In the reference implementation's sort order, low to high; its writer lays tensors out in the reverse of it.
enum class SafetensorsType : std::uint8_t {
  boolean,
  f4,
  f6_e2m3,
  f6_e3m2,
  u8,
  i8,
  f8_e5m2,
  f8_e4m3,
  f8_e8m0,
  f8_e4m3fnuz,
  f8_e5m2fnuz,
  i16,
  u16,
  f16,
  bf16,
  i32,
  u32,
  f32,
  c64,
  f64,
  i64,
  u64
};

/// Spelling in the file: "BF16".
std::string_view name_of(SafetensorsType type);
std::optional<SafetensorsType> safetensors_type_from_name(std::string_view name);
std::optional<DType> dtype_of(SafetensorsType type);
SafetensorsType safetensors_type_of(DType dtype);

/// Stored size. shape: row-major dimensions, empty for a scalar. Throws bad_data for a dimension above 2^48-1, an
/// overflow, or a size that is not a whole number of bytes (fp4 and fp6).
std::uint64_t safetensors_bytes(SafetensorsType type, std::span<const std::uint64_t> shape);

}  // namespace adze
