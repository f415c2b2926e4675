// Split patterns are written for Oniguruma (Ruby syntax); we match with PCRE2. The two differ in details that would
// change tokens without a word: this translates what can be translated and refuses the rest.
#pragma once

#include <string>
#include <string_view>

namespace adze {

/// The PCRE2 pattern with the same meaning. Throws bad_data naming the construct that has none (nested classes, &&,
/// named groups, inline flags for the rest of the pattern, back references, \b, \h, possessive intervals, ...).
std::string oniguruma_to_pcre2(std::string_view pattern);

}  // namespace adze
