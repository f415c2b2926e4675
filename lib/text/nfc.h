// Unicode normalization form C, with a fast way out for text that is in it already and without utf8proc's quadratic
// reordering of long runs of combining marks.
#pragma once

#include <string>
#include <string_view>

namespace adze {

/// True only if `text` (well-formed) is in NFC; false means that it must be looked at closely.
bool is_surely_nfc(std::string_view text);

/// NFC of well-formed text.
std::string to_nfc(std::string_view text);

}  // namespace adze
