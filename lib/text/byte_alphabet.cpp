#include "text/byte_alphabet.h"

#include <array>

#include "text/utf8.h"

namespace adze {
namespace {

constexpr bool stands_for_itself(unsigned byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

constexpr unsigned kAlphabetEnd = 0x144;  // 0x100 + the 68 bytes that do not stand for themselves

constexpr auto kSymbolOfByte = [] {
  std::array<std::uint16_t, 256> table{};
  std::uint16_t next = 0x100;
  for (unsigned byte = 0; byte < 256; ++byte)
    table[byte] = stands_for_itself(byte) ? static_cast<std::uint16_t>(byte) : next++;
  return table;
}();

constexpr auto kByteOfSymbol = [] {
  std::array<std::int16_t, kAlphabetEnd> table{};
  table.fill(-1);
  for (unsigned byte = 0; byte < 256; ++byte) table[kSymbolOfByte[byte]] = static_cast<std::int16_t>(byte);
  return table;
}();

}  // namespace

char32_t byte_symbol(std::uint8_t byte) { return kSymbolOfByte[byte]; }

std::string to_byte_alphabet(std::string_view bytes) {
  std::string out;
  for (const char byte : bytes) append_utf8(out, byte_symbol(static_cast<std::uint8_t>(byte)));
  return out;
}

std::optional<std::string> from_byte_alphabet(std::string_view text) {
  std::string bytes;
  for (std::size_t pos = 0; pos < text.size();) {
    const CodePoint point = code_point_at(text, pos);
    if (point.value >= kAlphabetEnd || kByteOfSymbol[point.value] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(kByteOfSymbol[point.value]));
    pos += point.length;
  }
  return bytes;
}

}  // namespace adze
