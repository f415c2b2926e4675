// Text of others on a terminal: what would move the cursor, colour the screen or turn the line around is shown as its
// code instead.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace adze {

/// Control characters and bytes that are no UTF-8 as "\x1b"; those of UTF-8 beyond ASCII (C1, marks of direction, line
/// and paragraph separators) as
/// "\u202e". `kept`: a control character that stays as it is.
std::string escaped(std::string_view text, std::optional<char> kept = std::nullopt);

}  // namespace adze
