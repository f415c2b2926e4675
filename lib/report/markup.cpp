#include "report/markup.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "text/utf8.h"

namespace adze {
namespace {

constexpr std::string_view kReplacement = "\uFFFD";

/// Characters that no document shows: controls but tab and line ends, and the two noncharacters that XML refuses.
bool is_unprintable(char32_t c) {
  if (c == '\t' || c == '\n' || c == '\r') return false;
  return c < 0x20 || (c >= 0x7F && c < 0xA0) || c == 0xFFFE || c == 0xFFFF;
}

/// Well-formed UTF-8 without unprintable characters.
std::string printable(std::string_view text) {
  const std::string repaired = replace_invalid_utf8(text);
  std::string out;
  out.reserve(repaired.size());
  for (std::size_t at = 0; at < repaired.size();) {
    const CodePoint point = code_point_at(repaired, at);
    out += is_unprintable(point.value) ? kReplacement : std::string_view(repaired).substr(at, point.length);
    at += point.length;
  }
  return out;
}

std::string_view html_entity(char c) {
  switch (c) {
    case '&':
      return "&amp;";
    case '<':
      return "&lt;";
    case '>':
      return "&gt;";
    case '"':
      return "&quot;";
    case '\'':
      return "&#39;";
    default:
      return {};
  }
}

bool contains(std::string_view set, char c) { return set.find(c) != std::string_view::npos; }

bool is_word(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         static_cast<unsigned char>(c) > 127;
}

/// An underscore within a word means nothing to Markdown: names of modules stay readable.
bool is_inner_underscore(std::string_view text, std::size_t at) {
  return text[at] == '_' && at > 0 && at + 1 < text.size() && is_word(text[at - 1]) && is_word(text[at + 1]);
}

bool is_number(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

/// The most characters of a kind in a row.
std::size_t longest_run(std::string_view text, char of) {
  std::size_t longest = 0, run = 0;
  for (const char c : text) {
    run = c == of ? run + 1 : 0;
    longest = std::max(longest, run);
  }
  return longest;
}

}  // namespace

std::string html_escaped(std::string_view text) {
  std::string out;
  for (const char c : printable(text)) {
    const std::string_view entity = html_entity(c);
    if (entity.empty())
      out += c;
    else
      out += entity;
  }
  return out;
}

std::string markdown_escaped(std::string_view text) {
  constexpr std::string_view kMarks = "\\`*_{}[]<>#|~$&";
  std::string line = printable(text);
  std::ranges::replace_if(
      line, [](char c) { return c == '\n' || c == '\r' || c == '\t'; }, ' ');
  line.erase(0, std::min(line.find_first_not_of(' '), line.size()));
  std::string out;
  for (std::size_t i = 0; i < line.size(); ++i) {
    const bool begins_a_list = out.empty() && (line[i] == '+' || line[i] == '-' || line[i] == '=');
    const bool ends_a_number = (line[i] == '.' || line[i] == ')') && i > 0 &&
                               line.find_first_not_of("0123456789") == i && i + 1 < line.size() && line[i + 1] == ' ';
    if (begins_a_list || ends_a_number || (contains(kMarks, line[i]) && !is_inner_underscore(line, i))) out += '\\';
    out += line[i];
  }
  return out;
}

std::string markdown_fenced(std::string_view text) {
  constexpr std::size_t kShortest = 3;
  const std::string shown = printable(text);
  const std::string fence(std::max(kShortest, longest_run(shown, '`') + 1), '`');
  return fence + "\n" + shown + (shown.ends_with('\n') ? "" : "\n") + fence + "\n";
}

std::string csv_field(std::string_view text) {
  std::string field = printable(text);
  constexpr std::string_view kFormula = "=+-@\t\r";
  if (!field.empty() && contains(kFormula, field.front()) && !is_number(field)) field.insert(field.begin(), '\'');
  if (field.find_first_of(",\"\r\n") == std::string::npos) return field;
  std::string quoted = "\"";
  for (const char c : field) quoted += c == '"' ? "\"\"" : std::string(1, c);
  return quoted + "\"";
}

std::string data_uri(std::string_view media_type, std::string_view text) {
  std::string uri = fmt::format("data:{};charset=utf-8,", media_type);
  constexpr std::string_view kPlain = "-._~,:/()";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 128 && (is_word(c) || contains(kPlain, c)))
      uri += c;
    else
      uri += fmt::format("%{:02X}", byte);
  }
  return uri;
}

std::size_t characters_in(std::string_view text) {
  return static_cast<std::size_t>(
      std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

std::string shortened(std::string_view text, std::size_t characters) {
  const std::string shown = printable(text);
  if (characters_in(shown) <= characters) return shown;
  std::size_t at = 0;
  for (std::size_t kept = 0; kept + 1 < characters; ++kept) at += code_point_at(shown, at).length;
  return shown.substr(0, at) + "…";
}

}  // namespace adze
