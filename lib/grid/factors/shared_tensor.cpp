#include "grid/factors/shared_tensor.h"

#include <string_view>

#include <fmt/format.h>

#include "base/error.h"

namespace adze {
namespace {

constexpr std::string_view kPrefix = "shared ";

}  // namespace

std::string SharedTensor::format() const { return shared_format({owner_, factor_->format()}); }

std::string shared_format(const SharedFormat& parts) {
  return fmt::format("{}{} [{}]", kPrefix, parts.owner, parts.format);
}

std::optional<SharedFormat> parse_shared_format(const std::string& format) {
  if (!format.starts_with(kPrefix)) return std::nullopt;
  const std::string_view rest = std::string_view(format).substr(kPrefix.size());
  const std::size_t space = rest.find(' ');
  if (space != std::string_view::npos && space > 0) {
    const std::string_view bracketed = rest.substr(space + 1);
    if (bracketed.size() > 2 && bracketed.front() == '[' && bracketed.back() == ']') {
      SharedFormat parts{std::string(rest.substr(0, space)), std::string(bracketed.substr(1, bracketed.size() - 2))};
      if (!parse_shared_format(parts.format)) return parts;
    }
  }
  fail(ErrorKind::bad_data, "unknown format '{}'", format);
}

}  // namespace adze
