#include "model/packed/packed_layout.h"

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace adze {

NamePattern::NamePattern(const std::string& pattern, const std::string& place)
    : regex_(with_context(place, [&] { return Regex(pattern); })) {}

bool NamePattern::matches(const std::string& name) const {
  Regex::Matcher matcher(regex_, name);
  const auto match = matcher.next();
  return match && match->begin == 0;
}

void PackedSizes::check(Shape shape) const {
  if (bits < 2 || bits > 8 || bits == 7)
    fail(ErrorKind::bad_data, "{} bits are not supported; 2, 3, 4, 5, 6 and 8 are", bits);
  if (shape.cols % group_cols(shape.cols) != 0)
    fail(ErrorKind::bad_data, "rows of {} columns do not divide into groups of {}", shape.cols, group);
}

std::size_t group_of(const nlohmann::json& settings, const char* key, const std::string& origin) {
  if (!settings.contains(key) || settings[key].is_null()) return 0;
  constexpr std::int64_t kMost = 1 << 20;
  if (settings[key].is_number_integer()) {
    const auto group = settings[key].get<std::int64_t>();
    if (group == -1) return 0;
    if (group > 0 && group <= kMost) return static_cast<std::size_t>(group);
  }
  fail(ErrorKind::bad_data, "{}: '{}' is {}, not a number of columns or -1", origin, key, settings[key].dump());
}

}  // namespace adze
