#include "grid/gguf/block_grid.h"

#include <fmt/format.h>

namespace adze {
namespace {

/// Calls move(element, byte, bit) for every code of a field, element by element of a run.
template <class Move>
void for_codes(const CodeField& field, std::size_t count, Move&& move) {
  const std::size_t slots = 8 / static_cast<std::size_t>(field.bits);
  std::size_t byte = field.offset;
  for (std::size_t first = 0; first < count; first += slots * field.run, byte += field.run)
    for (std::size_t slot = 0; slot < slots; ++slot)
      for (std::size_t j = 0; j < field.run; ++j)
        move(first + slot * field.run + j, byte + j, static_cast<int>(slot) * field.bits);
}

}  // namespace

std::optional<std::string> BlockGrid::cannot_hold(std::size_t cols) const {
  if (cols > 0 && cols % layout_.block_cols == 0) return std::nullopt;
  const bool smaller_fits = layout_.smaller_name != nullptr && cols > 0 && cols % 32 == 0;
  return fmt::format("{}: rows of {} columns do not divide into blocks of {}; {}", name(), cols, layout_.block_cols,
                     smaller_fits ? fmt::format("grid: {} fits", layout_.smaller_name) : "keep it with store: f16");
}

void BlockGrid::pack_row(std::span<const std::int16_t> codes, std::span<const std::byte> side,
                         std::span<std::byte> out) const {
  for (std::size_t b = 0; b * layout_.block_cols < codes.size(); ++b) {
    const std::span<std::byte> block = out.subspan(b * layout_.block_bytes, layout_.block_bytes);
    std::ranges::fill(block, std::byte{0});
    std::span<const std::byte> rest = side.subspan(b * layout_.side_bytes(), layout_.side_bytes());
    for (const SidePart& part : layout_.side) {
      std::ranges::copy(rest.first(part.bytes), block.begin() + static_cast<std::ptrdiff_t>(part.offset));
      rest = rest.subspan(part.bytes);
    }
    pack_codes(codes.subspan(b * layout_.block_cols, layout_.block_cols), block);
  }
}

void BlockGrid::unpack_row(std::span<const std::byte> in, std::span<std::int16_t> codes,
                           std::span<std::byte> side) const {
  for (std::size_t b = 0; b * layout_.block_cols < codes.size(); ++b) {
    const std::span<const std::byte> block = in.subspan(b * layout_.block_bytes, layout_.block_bytes);
    std::span<std::byte> rest = side.subspan(b * layout_.side_bytes(), layout_.side_bytes());
    for (const SidePart& part : layout_.side) {
      std::ranges::copy(block.subspan(part.offset, part.bytes), rest.begin());
      rest = rest.subspan(part.bytes);
    }
    unpack_codes(block, codes.subspan(b * layout_.block_cols, layout_.block_cols));
  }
}

void BlockGrid::pack_codes(std::span<const std::int16_t> codes, std::span<std::byte> block) const {
  for (const CodeField& field : layout_.fields) {
    if (field.bits == 0) continue;
    const int mask = (1 << field.bits) - 1;
    for_codes(field, codes.size(), [&](std::size_t element, std::size_t byte, int bit) {
      block[byte] |= static_cast<std::byte>((((codes[element] + layout_.bias) >> field.shift) & mask) << bit);
    });
  }
}

void BlockGrid::unpack_codes(std::span<const std::byte> block, std::span<std::int16_t> codes) const {
  std::ranges::fill(codes, static_cast<std::int16_t>(-layout_.bias));
  for (const CodeField& field : layout_.fields) {
    if (field.bits == 0) continue;
    const int mask = (1 << field.bits) - 1;
    for_codes(field, codes.size(), [&](std::size_t element, std::size_t byte, int bit) {
      const int bits = (std::to_integer<int>(block[byte]) >> bit) & mask;
      codes[element] = static_cast<std::int16_t>(codes[element] + (bits << field.shift));
    });
  }
}

}  // namespace adze
