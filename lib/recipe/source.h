// The text of one YAML file and the places in it: byte offsets become line:column and the lines that messages show.
//
// Text comes from strangers: more than 1 MiB, bytes that are not UTF-8, control characters and tabs used as indentation
// are refused before any YAML parser sees them, so that offsets, lines and what a terminal prints stay trustworthy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace adze {

inline constexpr std::size_t kMaxSourceBytes = std::size_t{1} << 20;  // recipes are a few KiB; 1 MiB parses in < 1 s

/// A place in a source: a byte offset, or nowhere.
struct Mark {
  static constexpr std::size_t kNowhere = std::numeric_limits<std::size_t>::max();
  std::size_t offset = kNowhere;

  bool known() const { return offset != kNowhere; }
  bool operator==(const Mark&) const = default;
};

/// Line and column, both from 1; columns count characters (code points).
struct Place {
  std::size_t line = 0;
  std::size_t column = 0;
  bool operator==(const Place&) const = default;
};

/// One complaint about the bytes of a source.
struct ByteProblem {
  std::string message;
  Mark where;
};

class Source {
 public:
  /// `origin` is the name that messages lead with. Byte order marks in front are dropped. Never throws for its content.
  Source(std::string text, std::string origin);

  const std::string& origin() const { return origin_; }
  const std::string& text() const { return text_; }

  /// Line of a mark, from 1.
  std::size_t line_of(Mark mark) const;
  /// Offsets past the end mean the end of the last line that is not empty.
  Place place_of(Mark mark) const;
  /// "    the line\n        ^": the marked line without its indentation, cut to a window around the mark when long,
  /// and a caret below the mark. Characters that would disturb a terminal are shown as '?'. Empty for an empty line.
  std::string excerpt(Mark mark) const;
  /// What makes the text unreadable: the first byte that is no text, else every line indented with tabs.
  std::vector<ByteProblem> byte_problems() const;

 private:
  std::size_t line_index(std::size_t offset) const;
  std::size_t clamp(std::size_t offset) const;
  std::string_view line_text(std::size_t index) const;

  std::string text_;
  std::string origin_;
  std::vector<std::size_t> line_starts_;
};

/// `text` in single quotes, fit for a message: at most 60 characters, control characters and broken UTF-8 as '?'.
std::string quoted_for_message(std::string_view text);

/// True when a character of `text` is a control character, line breaks and tabs included.
bool has_control_characters(std::string_view text);

}  // namespace adze
