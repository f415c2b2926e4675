// Conversion of whole arrays between stored float types and float (Highway kernels, chosen at run time).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/dtype.h"

namespace adze {

/// Converts out.size() values of `dtype` (f32, f16, bf16; little-endian, any alignment) at `in`. Exact.
/// Throws internal for another dtype or when in.size() != out.size() * bytes_of(dtype).
void to_float(DType dtype, std::span<const std::byte> in, std::span<float> out);

/// The reverse, rounding to nearest even.
void from_float(DType dtype, std::span<const float> in, std::span<std::byte> out);

/// True when every value is finite.
bool all_finite(std::span<const float> values);

/// Names the instruction sets in use, e.g. "AVX3_SPR/SapphireRapids": bytes are promised per kernel name.
std::string kernel_name();

}  // namespace adze
