// The alphabet of byte-level BPE: each byte is written as one printable character, so that vocabularies are JSON text.
// Printable Latin-1 bytes stand for themselves, the other 68 are U+0100.. in increasing order ("Ġ" is the space).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace adze {

/// The character that stands for `byte`.
char32_t byte_symbol(std::uint8_t byte);

/// Bytes -> alphabet, e.g. " a" -> "Ġa".
std::string to_byte_alphabet(std::string_view bytes);

/// Alphabet (well-formed UTF-8) -> bytes; nothing when a character is outside the alphabet.
std::optional<std::string> from_byte_alphabet(std::string_view text);

}  // namespace adze
