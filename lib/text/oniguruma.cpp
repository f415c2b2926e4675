#include "text/oniguruma.h"

#include <array>
#include <cctype>

#include "base/error.h"

namespace adze {
namespace {

struct Escape {
  char letter;
  std::string_view outside;   ///< translation outside a class; empty: refused
  std::string_view in_class;  ///< translation inside a class; empty: refused
};
/// \s is White_Space in Oniguruma; in PCRE2 it would also match U+180E. \w has no PCRE2 equal and \v is one character.
constexpr std::array kEscapes = {
    Escape{'s', "\\p{White_Space}", "\\p{White_Space}"},
    Escape{'S', "\\P{White_Space}", "\\P{White_Space}"},
    Escape{'w', "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}]", "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"},
    Escape{'W', "[^\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}]", ""},
    Escape{'d', "\\p{Nd}", "\\p{Nd}"},
    Escape{'D', "\\P{Nd}", "\\P{Nd}"},
    Escape{'r', "\\r", "\\r"},
    Escape{'n', "\\n", "\\n"},
    Escape{'t', "\\t", "\\t"},
    Escape{'f', "\\f", "\\f"},
    Escape{'v', "\\x0B", "\\x0B"},
    Escape{'a', "\\a", "\\a"},
    Escape{'e', "\\e", "\\e"},
    Escape{'p', "\\p", "\\p"},
    Escape{'P', "\\P", "\\P"},
    Escape{'A', "\\A", ""},
    Escape{'z', "\\z", ""},
};

constexpr std::array<std::string_view, 7> kGroupHeads = {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:"};

class Translator {
 public:
  explicit Translator(std::string_view pattern) : pattern_(pattern) {}

  std::string run() {
    while (pos_ < pattern_.size()) step();
    if (in_class_) refuse("an unterminated character class");
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse(std::string_view what) const {
    fail(ErrorKind::bad_data, "split pattern '{}': byte {}: {} is not supported", pattern_, pos_, what);
  }
  std::string_view rest() const { return pattern_.substr(pos_); }
  void copy(std::size_t count) {
    out_ += pattern_.substr(pos_, count);
    pos_ += count;
  }

  void step() {
    const char c = pattern_[pos_];
    if (c == '\\') return escape();
    if (in_class_) return class_member(c);
    if (c == '[') return open_class();
    if (c == '(') return open_group();
    if (c == '{') return interval();
    copy(1);
  }

  void escape() {
    if (rest().size() < 2) refuse("a backslash at the end");
    const char letter = pattern_[pos_ + 1];
    if (letter == 'x' || letter == 'u') return code_point_escape(letter);
    if (!std::isalnum(static_cast<unsigned char>(letter))) return copy_escaped();
    for (const Escape& known : kEscapes) {
      if (known.letter != letter) continue;
      const std::string_view text = in_class_ ? known.in_class : known.outside;
      if (text.empty()) break;
      out_ += text;
      pos_ += 2;
      return;
    }
    refuse(fmt::format("the escape \\{}{}", letter, in_class_ ? " in a class" : ""));
  }

  /// Backslash and a character that is no letter or digit; a multi-byte character follows by itself.
  void copy_escaped() { static_cast<unsigned char>(pattern_[pos_ + 1]) < 0x80 ? copy(2) : void(++pos_); }

  /// \xHH, \x{H...} and \uHHHH.
  void code_point_escape(char letter) {
    const std::string_view body = rest().substr(2);
    const bool braced = letter == 'x' && body.starts_with('{');
    const std::size_t first = braced ? 1 : 0;
    const std::size_t most = braced ? 6 : letter == 'x' ? 2 : 4;
    std::size_t count = 0;
    while (count < most && first + count < body.size() &&
           std::isxdigit(static_cast<unsigned char>(body[first + count])))
      ++count;
    const bool complete = braced ? count > 0 && body.substr(first + count).starts_with('}') : count == most;
    if (!complete) refuse("a malformed code point escape");
    out_ += fmt::format("\\x{{{}}}", body.substr(first, count));
    pos_ += 2 + 2 * first + count;
  }

  void open_class() {
    in_class_ = true;
    copy(rest().starts_with("[^") ? 2 : 1);
    if (rest().starts_with(']')) refuse("an empty character class");
  }

  void class_member(char c) {
    if (c == '[') refuse("a character class inside another");
    if (rest().starts_with("&&")) refuse("a character class intersection");
    if (c == ']') in_class_ = false;
    copy(1);
  }

  void open_group() {
    if (!rest().starts_with("(?") && !rest().starts_with("(*")) return copy(1);
    for (const std::string_view head : kGroupHeads)
      if (rest().starts_with(head)) return copy(head.size());
    refuse(fmt::format("the group '{}'", rest().substr(0, 4)));
  }

  /// {n}, {n,} and {n,m} mean the same; {,m} and a possessive + behind do not. Any other brace is a literal in both.
  void interval() {
    const std::size_t end = rest().find_first_not_of("0123456789,", 1);
    if (end == std::string_view::npos || rest()[end] != '}' || end == 1) return copy(1);
    if (rest()[1] == ',') refuse("an interval without its lower bound");
    copy(end + 1);
    if (rest().starts_with('+')) refuse("'+' after an interval");
  }

  std::string_view pattern_;
  std::size_t pos_ = 0;
  bool in_class_ = false;
  std::string out_;
};

}  // namespace

std::string oniguruma_to_pcre2(std::string_view pattern) { return Translator(pattern).run(); }

}  // namespace adze
