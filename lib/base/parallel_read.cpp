#include "base/parallel_read.h"

#include <algorithm>

#include "base/checked.h"
#include "base/parallel.h"

namespace adze {

void parallel_read(const InputFile& file, std::uint64_t offset, std::span<std::byte> out) {
  constexpr std::size_t kPiece = std::size_t{1} << 19;
  if (out.size() <= kPiece || offset > file.size() || out.size() > file.size() - offset)
    return file.read(offset, out);  // which refuses what is outside as a whole
  parallel_for(divide_up(out.size(), kPiece), [&](std::size_t piece) {
    const std::size_t begin = piece * kPiece;
    file.read(offset + begin, out.subspan(begin, std::min(kPiece, out.size() - begin)));
  });
}

}  // namespace adze
