#include "text/char_class.h"

#include <map>

#include <utf8proc.h>

namespace adze {
namespace {

using Block = std::array<std::uint16_t, 256>;

/// Flags of each general category, indexed as utf8proc numbers them.
std::uint16_t flags_of_category(utf8proc_category_t category) {
  switch (category) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return kLetter | kWordChar;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
      return kMark | kWordChar;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
      return kNumber | kWordChar;
    case UTF8PROC_CATEGORY_NO:
      return kNumber;
    case UTF8PROC_CATEGORY_PC:
      return kPunctuation | kWordChar;
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
      return kPunctuation;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return kSpace;  // Z* and U+0009-000D, U+0085 are White_Space
    default:
      return 0;
  }
}

struct Range {
  char32_t first, last;
};
template <std::size_t n>
bool in_any(const Range (&ranges)[n], char32_t c) {
  for (const Range& range : ranges)
    if (c >= range.first && c <= range.last) return true;
  return false;
}
constexpr Range kControlSpaces[] = {{0x09, 0x0D}, {0x85, 0x85}};
constexpr Range kAsciiSymbols[] = {{'$', '$'}, {'+', '+'}, {'<', '>'}, {'^', '^'}, {'`', '`'}, {'|', '|'}, {'~', '~'}};
/// Alphabetic symbols (circled and squared letters) and the join controls.
constexpr Range kOtherWordChars[] = {
    {0x200C, 0x200D}, {0x24B6, 0x24E9}, {0x1F130, 0x1F149}, {0x1F150, 0x1F169}, {0x1F170, 0x1F189}};
/// Vowels and finals of conjoining Hangul: letters that compose with what precedes.
constexpr Range kComposingJamo[] = {{0x1161, 0x1175}, {0x11A8, 0x11C2}};

/// The canonical decomposition, recomposed, is the character itself.
bool survives_nfc(char32_t c) {
  utf8proc_int32_t buffer[32];
  int boundary = 0;
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
  const auto count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), buffer, 32, options, &boundary);
  if (count < 1 || count > 32) return false;
  return utf8proc_normalize_utf32(buffer, count, options) == 1 && buffer[0] == static_cast<utf8proc_int32_t>(c);
}

bool is_nfc_safe(char32_t c, const utf8proc_property_t& property) {
  if (property.combining_class != 0 || in_any(kComposingJamo, c)) return false;
  if (flags_of_category(static_cast<utf8proc_category_t>(property.category)) & kMark) return false;
  return property.decomp_seqindex == UINT16_MAX || property.decomp_type != 0 || survives_nfc(c);
}

std::uint16_t flags_of(char32_t c) {
  const utf8proc_property_t& property = *utf8proc_get_property(static_cast<utf8proc_int32_t>(c));
  unsigned flags = flags_of_category(static_cast<utf8proc_category_t>(property.category));
  if (in_any(kControlSpaces, c)) flags |= kSpace;
  if (c == '\r' || c == '\n') flags |= kNewline;
  if (in_any(kAsciiSymbols, c)) flags |= kPunctuation;
  if (in_any(kOtherWordChars, c)) flags |= kWordChar;
  if (is_nfc_safe(c, property)) flags |= kNfcSafe;
  return static_cast<std::uint16_t>(flags);
}

}  // namespace

CharClasses::CharClasses() {
  std::map<Block, std::uint16_t> known;  // most blocks of 256 are alike
  for (std::size_t index = 0; index < block_of_.size(); ++index) {
    Block block{};
    for (std::size_t low = 0; low < 256; ++low) block[low] = flags_of(static_cast<char32_t>(index * 256 + low));
    const auto [place, is_new] = known.emplace(block, static_cast<std::uint16_t>(known.size()));
    if (is_new) blocks_.insert(blocks_.end(), block.begin(), block.end());
    block_of_[index] = place->second;
  }
}

const CharClasses& CharClasses::get() {
  static const CharClasses classes;
  return classes;
}

}  // namespace adze
