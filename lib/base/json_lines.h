// JSON lines: one value a line, blank lines between them ignored, each as strict as base/json.h is.
// Include <nlohmann/json.hpp> where the values are used.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

namespace adze {

struct JsonLine {
  const nlohmann::json& value;
  std::size_t number;         ///< from 1 on
  const std::string& origin;  ///< "FILE:NUMBER", for messages
};

/// Calls body for every line that is not blank, in order. Throws bad_data as parse_json does, led by file and line.
void for_each_json_line(std::string_view text, std::string_view origin,
                        const std::function<void(const JsonLine&)>& body);

}  // namespace adze
