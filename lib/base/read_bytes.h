// Much of a file as a vector.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/file.h"

namespace adze {

/// Bytes [offset, offset + count) of a file. Throws bad_data outside of it, io when it cannot be read.
std::vector<std::byte> read_bytes(const InputFile& file, std::uint64_t offset, std::uint64_t count);

/// The bytes that a vector grows by while it is filled from a file: it writes zeros first, which are still in the cache
/// when bytes take their place.
inline constexpr std::size_t kReadPiece = std::size_t{1} << 18;

}  // namespace adze
