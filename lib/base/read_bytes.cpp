#include "base/read_bytes.h"

#include <algorithm>
#include <span>

#include "base/byte_array.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/parallel.h"

namespace adze {
namespace {

void check_inside(const InputFile& file, std::uint64_t offset, std::uint64_t count) {
  if (offset > file.size() || count > file.size() - offset)
    fail(ErrorKind::bad_data, "{}: bytes {} to {}+{} lie outside the file of {} bytes", file.path().string(), offset,
         offset, count, file.size());
}

}  // namespace

std::vector<std::byte> read_bytes(const InputFile& file, std::uint64_t offset, std::uint64_t count) {
  check_inside(file, offset, count);
  std::vector<std::byte> bytes;
  bytes.reserve(checked_cast<std::size_t>(count));
  while (bytes.size() < count) {
    const std::size_t begin = bytes.size();
    bytes.resize(begin + std::min<std::uint64_t>(kReadPiece, count - begin));
    file.read(offset + begin, std::span(bytes).subspan(begin));
  }
  return bytes;
}

void read_rows(const InputFile& file, const RowsInFile& matrix, std::size_t multiple,
               const std::function<void(std::size_t first, std::span<const std::byte> bytes)>& body) {
  check_inside(file, matrix.offset, checked_mul(matrix.rows, matrix.row_bytes));
  if (matrix.rows == 0 || matrix.row_bytes == 0) return;
  const std::size_t piece = multiple * std::max<std::size_t>(kReadPiece / (multiple * matrix.row_bytes), 1);
  parallel_for(divide_up(matrix.rows, piece), [&](std::size_t p) {
    const std::size_t first = p * piece, count = std::min(piece, matrix.rows - first);
    ByteArray bytes(count * matrix.row_bytes);
    file.read(matrix.offset + first * matrix.row_bytes, bytes);
    body(first, bytes);
  });
}

}  // namespace adze
