#include "recipe/source.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace adze {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
constexpr std::size_t kExcerptCharacters = 110;  // with the indentation of 4, lines stay below 120 columns
constexpr std::size_t kQuotedCharacters = 60;

struct Character {
  std::uint32_t code = 0;
  std::size_t bytes = 1;
  bool valid = false;
};

struct Utf8Form {
  std::uint8_t mask, lead;
  std::size_t bytes;
  std::uint32_t smallest;  // a smaller code point in this form is overlong
};
constexpr Utf8Form kUtf8Forms[] = {
    {0x80, 0x00, 1, 0x0}, {0xE0, 0xC0, 2, 0x80}, {0xF0, 0xE0, 3, 0x800}, {0xF8, 0xF0, 4, 0x10000}};

/// The character at the front of `text` (not empty); invalid bytes come one by one.
Character decode(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  const auto* form = std::ranges::find_if(kUtf8Forms, [&](const Utf8Form& f) { return (byte(0) & f.mask) == f.lead; });
  if (form == std::end(kUtf8Forms) || text.size() < form->bytes) return {byte(0), 1, false};
  std::uint32_t code = byte(0) & static_cast<std::uint8_t>(~form->mask);
  for (std::size_t i = 1; i < form->bytes; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return {byte(0), 1, false};
    code = code << 6 | (byte(i) & 0x3Fu);
  }
  const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
  if (code < form->smallest || code > 0x10FFFF || surrogate) return {byte(0), 1, false};
  return {code, form->bytes, true};
}

bool is_control(std::uint32_t code) { return code < 0x20 || (code >= 0x7F && code < 0xA0); }

/// Marks that reorder or hide text on a terminal (bidirectional controls, zero width, byte order mark).
bool is_deceptive(std::uint32_t code) {
  return (code >= 0x200B && code <= 0x200F) || (code >= 0x2028 && code <= 0x202E) ||
         (code >= 0x2066 && code <= 0x2069) || code == 0xFEFF;
}

/// One visible string per character of `text`; at most `limit` of them.
std::vector<std::string_view> visible_characters(std::string_view text, std::size_t limit) {
  std::vector<std::string_view> shown;
  while (!text.empty() && shown.size() < limit) {
    const Character c = decode(text);
    const bool plain = c.valid && !is_control(c.code) && !is_deceptive(c.code);
    shown.push_back(plain ? text.substr(0, c.bytes) : c.code == '\t' ? " " : "?");
    text.remove_prefix(c.bytes);
  }
  return shown;
}

std::size_t count_characters(std::string_view text) {
  std::size_t count = 0;
  for (; !text.empty(); text.remove_prefix(decode(text).bytes)) ++count;
  return count;
}

std::string why_no_text(std::string_view rest) {
  const Character c = decode(rest);
  if (!c.valid) return fmt::format("byte 0x{:02X} is not UTF-8 text; is this a YAML file?", c.code);
  if (c.code == '\r' && !rest.starts_with("\r\n")) return "carriage return without line feed; save with Unix line ends";
  if (c.code == '\t' || c.code == '\n' || c.code == '\r') return {};
  if (is_control(c.code)) return fmt::format("control character U+{:04X}; is this a YAML file?", c.code);
  return {};
}

}  // namespace

Source::Source(std::string text, std::string origin) : text_(std::move(text)), origin_(std::move(origin)) {
  std::size_t marks = 0;
  while (std::string_view(text_).substr(marks).starts_with(kByteOrderMark)) marks += kByteOrderMark.size();
  text_.erase(0, marks);
  line_starts_.push_back(0);
  for (std::size_t i = 0; i < text_.size(); ++i)
    if (text_[i] == '\n') line_starts_.push_back(i + 1);
}

std::size_t Source::line_index(std::size_t offset) const {
  const auto after = std::ranges::upper_bound(line_starts_, offset);
  return static_cast<std::size_t>(after - line_starts_.begin()) - 1;
}

std::string_view Source::line_text(std::size_t index) const {
  const std::size_t end = index + 1 < line_starts_.size() ? line_starts_[index + 1] - 1 : text_.size();
  std::string_view line = std::string_view(text_).substr(line_starts_[index], end - line_starts_[index]);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

std::size_t Source::clamp(std::size_t offset) const {
  if (offset < text_.size()) return offset;
  const std::size_t last = text_.find_last_not_of(" \t\r\n");
  return last == std::string::npos ? 0 : last + 1;
}

std::size_t Source::line_of(Mark mark) const { return line_index(clamp(mark.offset)) + 1; }

Place Source::place_of(Mark mark) const {
  const std::size_t offset = clamp(mark.offset);
  const std::size_t line = line_index(offset);
  const std::size_t start = line_starts_[line];
  return {line + 1, count_characters(std::string_view(text_).substr(start, offset - start)) + 1};
}

std::string Source::excerpt(Mark mark) const {
  const Place place = place_of(mark);
  const auto characters = visible_characters(line_text(place.line - 1), kMaxSourceBytes);
  if (characters.empty()) return {};
  const std::size_t caret = std::min(place.column - 1, characters.size());
  const auto ink = std::ranges::find_if(characters, [](std::string_view c) { return c != " "; });
  const std::size_t indent = std::min(static_cast<std::size_t>(ink - characters.begin()), caret);
  const bool fits = characters.size() - indent <= kExcerptCharacters;
  const std::size_t begin = fits || caret < indent + kExcerptCharacters / 2 ? indent : caret - kExcerptCharacters / 2;
  const std::size_t end = std::min(characters.size(), begin + kExcerptCharacters);

  std::string shown = begin > indent ? "... " : "";
  const std::size_t caret_column = shown.size() + caret - begin;
  for (std::size_t i = begin; i < end; ++i) shown += characters[i];
  if (end < characters.size()) shown += " ...";
  return fmt::format("    {}\n    {:{}}^", shown, "", caret_column);
}

std::vector<ByteProblem> Source::byte_problems() const {
  const std::string_view text = text_;
  for (std::size_t at = 0; at < text.size(); at += decode(text.substr(at)).bytes) {
    std::string why = why_no_text(text.substr(at));
    if (!why.empty()) return {{std::move(why), {at}}};
  }
  std::vector<ByteProblem> problems;
  for (std::size_t i = 0; i < line_starts_.size(); ++i) {
    const std::string_view line = line_text(i);
    const std::string_view indentation = line.substr(0, line.find_first_not_of(" \t"));
    const std::size_t tab = indentation.find('\t');
    if (tab != std::string_view::npos && indentation.size() < line.size())
      problems.push_back({"a tab in the indentation; YAML is indented with spaces", {line_starts_[i] + tab}});
  }
  return problems;
}

std::string quoted_for_message(std::string_view text) {
  std::string quoted = "'";
  for (const std::string_view character : visible_characters(text, kQuotedCharacters)) quoted += character;
  // At most four bytes a character: a longer rest was certainly cut.
  const bool cut = count_characters(text.substr(0, 4 * (kQuotedCharacters + 1))) > kQuotedCharacters;
  return quoted + (cut ? "...'" : "'");
}

bool has_control_characters(std::string_view text) {
  for (; !text.empty(); text.remove_prefix(decode(text).bytes))
    if (is_control(decode(text).code)) return true;
  return false;
}

}  // namespace adze
