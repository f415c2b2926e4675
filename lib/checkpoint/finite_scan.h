// Looks for NaN and infinity in stored floats without converting them: an exponent of all ones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "base/dtype.h"

namespace adze {

/// Index of the first value that is not finite; nothing for integer types. bytes: little-endian, a whole number of
/// elements, any alignment.
std::optional<std::uint64_t> find_non_finite(DType dtype, std::span<const std::byte> bytes);

}  // namespace adze
