#include "base/read_bytes.h"

#include <algorithm>
#include <span>

#include "base/checked.h"
#include "base/error.h"

namespace adze {

std::vector<std::byte> read_bytes(const InputFile& file, std::uint64_t offset, std::uint64_t count) {
  if (offset > file.size() || count > file.size() - offset)
    fail(ErrorKind::bad_data, "{}: bytes {} to {}+{} lie outside the file of {} bytes", file.path().string(), offset,
         offset, count, file.size());
  std::vector<std::byte> bytes;
  bytes.reserve(checked_cast<std::size_t>(count));
  while (bytes.size() < count) {
    const std::size_t begin = bytes.size();
    bytes.resize(begin + std::min<std::uint64_t>(kReadPiece, count - begin));
    file.read(offset + begin, std::span(bytes).subspan(begin));
  }
  return bytes;
}

}  // namespace adze
