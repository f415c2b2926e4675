#include "checkpoint/finite_scan.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace adze {
namespace {

/// Words of a block are tested together, so that the loop has no branch; the index is looked for only in a block that
/// hits.
template <typename Word>
std::optional<std::uint64_t> find_all_ones(std::span<const std::byte> bytes, Word exponent) {
  constexpr std::size_t kBlock = 1024;
  std::array<Word, kBlock> block{};
  const std::size_t count = bytes.size() / sizeof(Word);
  for (std::size_t start = 0; start < count; start += kBlock) {
    const std::size_t size = std::min(kBlock, count - start);
    std::memcpy(block.data(), bytes.data() + start * sizeof(Word), size * sizeof(Word));
    unsigned hits = 0;
    for (std::size_t i = 0; i < size; ++i) hits |= (block[i] & exponent) == exponent;
    if (hits == 0) continue;
    const auto at =
        std::find_if(block.begin(), block.begin() + size, [&](Word w) { return (w & exponent) == exponent; });
    return start + static_cast<std::size_t>(at - block.begin());
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::uint64_t> find_non_finite(DType dtype, std::span<const std::byte> bytes) {
  switch (dtype) {
    case DType::f64:
      return find_all_ones<std::uint64_t>(bytes, 0x7FF0'0000'0000'0000);
    case DType::f32:
      return find_all_ones<std::uint32_t>(bytes, 0x7F80'0000);
    case DType::f16:
      return find_all_ones<std::uint16_t>(bytes, 0x7C00);
    case DType::bf16:
      return find_all_ones<std::uint16_t>(bytes, 0x7F80);
    default:
      return std::nullopt;
  }
}

}  // namespace adze
