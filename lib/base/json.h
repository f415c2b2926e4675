// Strict JSON for foreign files: depth limit, no duplicate keys, valid UTF-8, errors that name the file and the byte.
// Include <nlohmann/json.hpp> where the result is used.
#pragma once

#include <cstddef>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

namespace adze {

/// Parses `text` whole. `origin` (a file name) leads the message. Throws bad_data: syntax, duplicate key, nesting
/// deeper than `max_depth`, bytes after the value, a NUL or a byte order mark.
nlohmann::json parse_json(std::string_view text, std::string_view origin, std::size_t max_depth = 64);

}  // namespace adze
