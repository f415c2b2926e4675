#include "grid/gguf/block_grid.h"

#include <fmt/format.h>

namespace adze {
namespace {

/// Calls move(first element, first byte, bit) for every run of a field's codes in a block of `count`.
template <class Move>
void for_runs(const CodeField& field, std::size_t count, Move&& move) {
  const std::size_t slots = 8 / static_cast<std::size_t>(field.bits);
  std::size_t byte = field.offset;
  for (std::size_t first = 0; first < count; first += slots * field.run, byte += field.run)
    for (std::size_t slot = 0; slot < slots; ++slot)
      move(first + slot * field.run, byte, static_cast<int>(slot) * field.bits);
}

// Runs are packed and unpacked in pieces of 16 codes, which compilers make vectors of.
constexpr std::size_t kPiece = 16;

/// Where a code's bits go: ((code + bias) >> shift & mask) << bit.
struct CodeBits {
  int bias;
  int shift;
  int mask;
  int bit;
};

void pack_run(const std::int16_t* __restrict codes, std::size_t count, CodeBits bits, std::byte* __restrict out) {
  for (std::size_t j = 0; j < count; ++j)
    out[j] |= static_cast<std::byte>((((codes[j] + bits.bias) >> bits.shift) & bits.mask) << bits.bit);
}

void unpack_run(const std::byte* __restrict in, std::size_t count, CodeBits bits, std::int16_t* __restrict codes) {
  for (std::size_t j = 0; j < count; ++j) {
    const int code = ((std::to_integer<int>(in[j]) >> bits.bit) & bits.mask) << bits.shift;
    codes[j] = static_cast<std::int16_t>(codes[j] + code);
  }
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
  unpack_side(in, codes.size(), side);
  for (std::size_t b = 0; b * layout_.block_cols < codes.size(); ++b)
    unpack_codes(in.subspan(b * layout_.block_bytes, layout_.block_bytes),
                 codes.subspan(b * layout_.block_cols, layout_.block_cols));
}

void BlockGrid::unpack_side(std::span<const std::byte> in, std::size_t cols, std::span<std::byte> side) const {
  for (std::size_t b = 0; b * layout_.block_cols < cols; ++b) {
    const std::span<const std::byte> block = in.subspan(b * layout_.block_bytes, layout_.block_bytes);
    std::span<std::byte> rest = side.subspan(b * layout_.side_bytes(), layout_.side_bytes());
    for (const SidePart& part : layout_.side) {
      std::ranges::copy(block.subspan(part.offset, part.bytes), rest.begin());
      rest = rest.subspan(part.bytes);
    }
  }
}

void BlockGrid::pack_codes(std::span<const std::int16_t> codes, std::span<std::byte> block) const {
  for (const CodeField& field : layout_.fields) {
    if (field.bits == 0) continue;
    const int mask = (1 << field.bits) - 1;
    for_runs(field, codes.size(), [&](std::size_t element, std::size_t byte, int bit) {
      const CodeBits bits{layout_.bias, field.shift, mask, bit};
      std::size_t done = 0;
      for (; done + kPiece <= field.run; done += kPiece)
        pack_run(&codes[element + done], kPiece, bits, &block[byte + done]);
      pack_run(&codes[element + done], field.run - done, bits, &block[byte + done]);
    });
  }
}

void BlockGrid::unpack_codes(std::span<const std::byte> block, std::span<std::int16_t> codes) const {
  std::ranges::fill(codes, static_cast<std::int16_t>(-layout_.bias));
  for (const CodeField& field : layout_.fields) {
    if (field.bits == 0) continue;
    const int mask = (1 << field.bits) - 1;
    for_runs(field, codes.size(), [&](std::size_t element, std::size_t byte, int bit) {
      const CodeBits bits{layout_.bias, field.shift, mask, bit};
      std::size_t done = 0;
      for (; done + kPiece <= field.run; done += kPiece)
        unpack_run(&block[byte + done], kPiece, bits, &codes[element + done]);
      unpack_run(&block[byte + done], field.run - done, bits, &codes[element + done]);
    });
  }
}

}  // namespace adze
