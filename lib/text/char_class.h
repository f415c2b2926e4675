// Unicode properties of code points as bit flags, in one table lookup. The data are utf8proc's (Unicode 15 in version
// 2.8); Cn of a newer Unicode has no flags here, as in any tokenizer whose tables are older than the character.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "text/utf8.h"

namespace adze {

enum CharFlag : std::uint16_t {
  kLetter = 1,        ///< \p{L}
  kNumber = 2,        ///< \p{N}
  kSpace = 4,         ///< White_Space, what \s means in Oniguruma
  kNewline = 8,       ///< CR and LF
  kMark = 16,         ///< \p{M}
  kPunctuation = 32,  ///< \p{P} or ASCII punctuation
  kWordChar = 64,     ///< \w: Alphabetic, marks, decimal digits, connectors, join controls
  kNfcSafe = 128,  ///< text of these alone is in NFC: starters that never change and never compose with what precedes
};

/// The table, built once (about 10 ms, 60 KB); safe from any thread.
class CharClasses {
 public:
  static const CharClasses& get();

  std::uint16_t operator()(char32_t code_point) const {
    return blocks_[block_of_[code_point >> 8] * std::size_t{256} + (code_point & 0xFF)];
  }

  struct Char {
    std::uint16_t flags = 0;
    std::uint32_t length = 0;  ///< in bytes; 0 at the end of the text
  };
  /// Flags and length of the code point at `pos` of well-formed text; all zero at its end.
  Char at(std::string_view text, std::size_t pos) const {
    if (pos >= text.size()) return {};
    const auto lead = static_cast<unsigned char>(text[pos]);
    if (lead < 0x80) return {blocks_[lead], 1};  // block 0 is stored first
    const CodePoint point = code_point_at(text, pos);
    return {(*this)(point.value), point.length};
  }
  /// End of the run from `pos` of characters with any flag of `mask`.
  std::size_t skip(std::string_view text, std::size_t pos, unsigned mask) const {
    for (Char c = at(text, pos); c.flags & mask; c = at(text, pos)) pos += c.length;
    return pos;
  }
  /// End of the run from `pos` of characters with no flag of `mask`.
  std::size_t skip_without(std::string_view text, std::size_t pos, unsigned mask) const {
    for (Char c = at(text, pos); c.length != 0 && !(c.flags & mask); c = at(text, pos)) pos += c.length;
    return pos;
  }

 private:
  CharClasses();

  std::array<std::uint16_t, 0x1100> block_of_{};
  std::vector<std::uint16_t> blocks_;
};

}  // namespace adze
