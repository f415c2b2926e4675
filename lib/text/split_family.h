// The known split patterns and, for those that most models use, hand-written scanners that find the same words many
// times faster than a regular expression engine. Tests hold each scanner against PCRE2.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "text/splitter.h"
#include "text/vocabulary.h"

namespace adze {

/// The pattern of a family that one regular expression defines, in Oniguruma syntax; empty for the others.
std::string_view split_pattern(SplitFamily family);

/// The pattern with raw CR and LF characters written as the escapes \r and \n: files have either.
std::string with_escaped_newlines(std::string_view pattern);

/// The family with this pattern (newlines raw or escaped).
std::optional<SplitFamily> family_of_pattern(std::string_view pattern);

/// The scanner of a family (pieces are isolated matches); null when the family has none.
std::unique_ptr<const Splitter> make_scanner(SplitFamily family);

}  // namespace adze
