#include "base/byte_array.h"

#include <bit>
#include <new>

#include "base/checked.h"

namespace adze {
namespace {

constexpr std::size_t kLarge = std::size_t{1} << 20;
constexpr std::size_t kSizesPerDoubling = 16;  // at most a sixteenth is never used, and thus no memory yet

std::size_t common_size(std::size_t size) {
  return size < kLarge ? size : round_up(size, std::bit_floor(size) / kSizesPerDoubling);
}

}  // namespace

std::unique_ptr<std::byte[]> ByteArray::allocated(std::size_t size) {
  if (size > static_cast<std::size_t>(PTRDIFF_MAX) / 2) throw std::bad_alloc();
  return std::unique_ptr<std::byte[]>(new std::byte[common_size(size) + kPage]);
}

}  // namespace adze
