#include "report/escaped.h"

#include <algorithm>
#include <array>
#include <cstdint>

#include <fmt/format.h>

#include "text/utf8.h"

namespace adze {
namespace {

struct Range {
  std::uint32_t first, last;
};
/// C1 controls; marks of direction; separators, embeddings and overrides; isolates; no-break space of width zero.
constexpr std::array kUnsafe{Range{0x80, 0x9F}, Range{0x200E, 0x200F}, Range{0x2028, 0x202E}, Range{0x2066, 0x2069},
                             Range{0xFEFF, 0xFEFF}};

bool is_unsafe(std::uint32_t code) {
  return std::ranges::any_of(kUnsafe, [&](const Range& range) { return code >= range.first && code <= range.last; });
}

}  // namespace

std::string escaped(std::string_view text, std::optional<char> kept) {
  std::string safe;
  for (std::size_t at = 0; at < text.size();) {
    const auto byte = static_cast<unsigned char>(text[at]);
    const std::string_view character = text.substr(at, byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4);
    if (byte < 0x80 ? (byte < 0x20 || byte == 0x7F) && text[at] != kept : !is_valid_utf8(character)) {
      safe += fmt::format("\\x{:02x}", byte);
      ++at;
      continue;
    }
    const std::uint32_t code = code_point_at(text, at).value;
    if (is_unsafe(code))
      safe += fmt::format("\\u{:04x}", code);
    else
      safe += character;
    at += character.size();
  }
  return safe;
}

}  // namespace adze
