// UTF-8: validation, repair and code point access. Text from outside is repaired once at the door (each ill-formed part
// becomes U+FFFD exactly as the WHATWG decoder does it, so that other tools see the same text); everything behind the
// door assumes well-formed UTF-8 and does not check again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace adze {

inline constexpr char32_t kReplacementCharacter = 0xFFFD;

/// True when `text` is well-formed: shortest form, no surrogates, nothing above U+10FFFF.
bool is_valid_utf8(std::string_view text);

/// Replaces each maximal subpart of an ill-formed sequence by U+FFFD (Unicode 15, section 3.9, "U+FFFD Substitution of
/// Maximal Subparts"). Well-formed text comes back unchanged.
std::string replace_invalid_utf8(std::string_view text);

/// Appends the UTF-8 form of a scalar value.
void append_utf8(std::string& out, char32_t code_point);

struct CodePoint {
  char32_t value = 0;
  std::uint32_t length = 0;  ///< in bytes
};

/// The code point that starts at `pos`. The text must be well-formed and pos < text.size().
inline CodePoint code_point_at(std::string_view text, std::size_t pos) {
  const auto byte = [&](std::size_t i) { return static_cast<char32_t>(static_cast<unsigned char>(text[pos + i])); };
  const char32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xE0) return {(lead & 0x1F) << 6 | (byte(1) & 0x3F), 2};
  if (lead < 0xF0) return {(lead & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F), 3};
  return {(lead & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F), 4};
}

/// Start of the code point that ends just before `pos` > 0 in well-formed text.
inline std::size_t previous_code_point(std::string_view text, std::size_t pos) {
  do --pos;
  while ((static_cast<unsigned char>(text[pos]) & 0xC0) == 0x80);
  return pos;
}

}  // namespace adze
