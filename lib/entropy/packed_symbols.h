// Symbols of a fixed number of bits, lowest first without gaps, the last byte padded with zeros: what is not worth
// coding. (grid/bits.h packs single values into rows; it lies above this folder.)
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

namespace adze {

/// Bits of a symbol of an alphabet of 2 or more.
constexpr int symbol_bits(int alphabet) { return std::bit_width(static_cast<unsigned>(alphabet - 1)); }

constexpr std::uint64_t packed_symbol_bytes(std::uint64_t count, int bits) {
  return (count * static_cast<std::uint64_t>(bits) + 7) / 8;
}

/// out: packed_symbol_bytes(symbols.size(), bits). Symbols are below 2^bits, bits 1 to 16.
template <typename Symbol>
void pack_symbols(std::span<const Symbol> symbols, int bits, std::span<std::byte> out) {
  std::uint64_t window = 0;
  int held = 0;
  std::size_t at = 0;
  for (const Symbol symbol : symbols) {
    window |= std::uint64_t{symbol} << held;
    for (held += bits; held >= 8; held -= 8, window >>= 8) out[at++] = static_cast<std::byte>(window & 0xFF);
  }
  if (held > 0) out[at] = static_cast<std::byte>(window & 0xFF);
}

/// The inverse; in: packed_symbol_bytes(out.size(), bits). The padding is not looked at.
template <typename Symbol>
void unpack_symbols(std::span<const std::byte> in, int bits, std::span<Symbol> out) {
  const std::uint64_t mask = (std::uint64_t{1} << bits) - 1;
  std::uint64_t window = 0;
  int held = 0;
  std::size_t at = 0;
  for (Symbol& symbol : out) {
    for (; held < bits; held += 8) window |= std::to_integer<std::uint64_t>(in[at++]) << held;
    symbol = static_cast<Symbol>(window & mask);
    window >>= bits;
    held -= bits;
  }
}

}  // namespace adze
