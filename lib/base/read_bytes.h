// Much of a file: as a vector, or in pieces for who puts the bytes elsewhere, so that they need no place of their own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/file.h"

namespace adze {

/// Bytes [offset, offset + count) of a file. Throws bad_data outside of it, io when it cannot be read.
std::vector<std::byte> read_bytes(const InputFile& file, std::uint64_t offset, std::uint64_t count);

/// The bytes that a vector grows by while it is filled from a file: it writes zeros first, which are still in the cache
/// when bytes take their place.
inline constexpr std::size_t kReadPiece = std::size_t{1} << 18;

/// A matrix in a file, row after row.
struct RowsInFile {
  std::uint64_t offset = 0;  ///< of the first row
  std::size_t rows = 0;
  std::size_t row_bytes = 0;
};
/// Calls body(first, bytes) for pieces of the rows from `first` on, `multiple` rows or a multiple of that but for the
/// last piece, small enough to be in the cache still; on all threads. Throws as read_bytes(), before body is called.
void read_rows(const InputFile& file, const RowsInFile& matrix, std::size_t multiple,
               const std::function<void(std::size_t first, std::span<const std::byte> bytes)>& body);

}  // namespace adze
