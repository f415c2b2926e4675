#include "recipe/scalars.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "base/words.h"

namespace adze {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

bool is_digit_of(char c, int base) {
  if (base == 16) return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
  return c >= '0' && c < '0' + base;
}

std::size_t skip_digits(std::string_view text, std::size_t at) {
  while (at < text.size() && is_digit(text[at])) ++at;
  return at;
}

std::size_t skip_sign(std::string_view text, std::size_t at) {
  return at < text.size() && (text[at] == '-' || text[at] == '+') ? at + 1 : at;
}

bool is_core_real(std::string_view text) {
  const std::size_t start = skip_sign(text, 0);
  const std::size_t point = skip_digits(text, start);
  std::size_t end = point;
  if (end < text.size() && text[end] == '.') end = skip_digits(text, end + 1);
  const bool has_digits = point > start || end > point + 1;
  if (!has_digits) return false;
  if (end == text.size()) return true;
  if (text[end] != 'e' && text[end] != 'E') return false;
  const std::size_t exponent = skip_sign(text, end + 1);
  return exponent < text.size() && skip_digits(text, exponent) == text.size();
}

std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(' ');
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(' ') - first + 1);
}

}  // namespace

ScalarType scalar_type(const Node& scalar) {
  if (scalar.quoted) return ScalarType::text;
  if (parse_core_boolean(scalar.text)) return ScalarType::boolean;
  if (parse_core_integer(scalar.text)) return ScalarType::integer;
  return is_core_real(scalar.text) ? ScalarType::real : ScalarType::text;
}

std::optional<bool> parse_core_boolean(std::string_view text) {
  if (text == "true" || text == "True" || text == "TRUE") return true;
  if (text == "false" || text == "False" || text == "FALSE") return false;
  return std::nullopt;
}

std::optional<WholeNumber> parse_core_integer(std::string_view text) {
  WholeNumber number;
  const bool prefixed = text.starts_with("0x") || text.starts_with("0o");
  const int base = !prefixed ? 10 : text[1] == 'x' ? 16 : 8;
  number.negative = text.starts_with('-');
  text.remove_prefix(prefixed ? 2 : skip_sign(text, 0));
  if (text.empty() || !std::ranges::all_of(text, [&](char c) { return is_digit_of(c, base); })) return std::nullopt;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), number.magnitude, base);
  number.overflow = result.ec == std::errc::result_out_of_range;
  return number;
}

std::optional<double> parse_core_real(std::string_view text) {
  if (!is_core_real(text)) return std::nullopt;
  if (text.starts_with('+')) text.remove_prefix(1);
  double value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ec != std::errc()) return std::nullopt;
  return value;
}

std::optional<double> parse_percent(std::string_view text) {
  if (!text.ends_with('%')) return std::nullopt;
  text.remove_suffix(1);
  const auto percent = parse_core_real(trimmed(text));
  if (!percent) return std::nullopt;
  return *percent / 100;
}

std::optional<std::uint64_t> parse_sized_bytes(std::string_view text) {
  if (text.empty() || !is_letter(text.back())) return std::nullopt;
  return parse_bytes(text);
}

std::string describe(const Node& node) {
  switch (node.kind) {
    case NodeKind::null:
      return "nothing";
    case NodeKind::list:
      return "a list";
    case NodeKind::map:
      return "a map";
    case NodeKind::refused:
      return "something refused";
    case NodeKind::scalar:
      break;
  }
  const std::string shown = quoted_for_message(node.text);
  switch (scalar_type(node)) {
    case ScalarType::boolean:
      return node.text;
    case ScalarType::integer:
    case ScalarType::real:
      return "the number " + shown.substr(1, shown.size() - 2);
    case ScalarType::text:
      break;
  }
  return "the text " + shown;
}

}  // namespace adze
