#include <array>
#include <memory>
#include <string_view>

#include "text/char_class.h"
#include "text/split_family.h"

namespace adze {
namespace {

/// Length of the contraction at `pos` ('s 't 'm 'd 're 've 'll), 0 when there is none. Without regard to case, U+017F
/// (long s) is an s: full case folding, as both regular expression engines do it.
std::size_t contraction_length(std::string_view text, std::size_t pos, bool any_case) {
  const std::string_view rest = text.substr(pos, 3);
  if (rest.size() < 2 || rest[0] != '\'') return 0;
  if (any_case && rest == "'\xC5\xBF") return 3;
  const auto fold = [any_case](char c) { return any_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; };
  const char first = fold(rest[1]);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  if (rest.size() < 3) return 0;
  const char second = fold(rest[2]);
  const bool is_long = second == 'e' ? first == 'r' || first == 'v' : second == 'l' && first == 'l';
  return is_long ? 3 : 0;
}

/// `\s+(?!\S)|\s+` at a space: the whole run at the end of the text, else all of it but the last character, which
/// belongs to the word behind (unless it is the only one).
std::size_t spaces_end(const CharClasses& classes, std::string_view text, std::size_t pos) {
  const std::size_t run_end = classes.skip(text, pos, kSpace);
  if (run_end == text.size()) return run_end;
  const std::size_t last = previous_code_point(text, run_end);
  return last > pos ? last : run_end;
}

/// GPT-2: `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
class Gpt2Rules {
 public:
  std::size_t word_end(const CharClasses& classes, std::string_view text, std::size_t pos) const {
    if (const std::size_t length = contraction_length(text, pos, /*any_case=*/false)) return pos + length;
    const std::size_t start = pos + (text[pos] == ' ');
    const CharClasses::Char head = classes.at(text, start);
    if (head.flags & kLetter) return classes.skip(text, start, kLetter);
    if (head.flags & kNumber) return classes.skip(text, start, kNumber);
    if (head.length != 0 && !(head.flags & kSpace))
      return classes.skip_without(text, start, kSpace | kLetter | kNumber);
    return spaces_end(classes, text, pos);
  }
};

/// The GPT-4 kind. `word` is what words consist of, \p{L} or [\p{L}\p{M}]:
/// `CONTRACTIONS|[^\r\n\p{L}\p{N}]?word+|\p{N}{1,max_digits}| ?[^\s\p{N}word]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
class Gpt4Rules {
 public:
  Gpt4Rules(unsigned word, unsigned max_digits) : word_(word), max_digits_(max_digits) {}

  std::size_t word_end(const CharClasses& classes, std::string_view text, std::size_t pos) const {
    if (const std::size_t length = contraction_length(text, pos, /*any_case=*/true)) return pos + length;
    const CharClasses::Char head = classes.at(text, pos);
    if (head.flags & word_) return classes.skip(text, pos, word_);
    if (head.flags & kNumber) return digits_end(classes, text, pos);
    const std::size_t second = pos + head.length;
    if (!(head.flags & kNewline) && (classes.at(text, second).flags & word_)) return classes.skip(text, second, word_);
    if (const std::size_t end = symbols_end(classes, text, pos)) return end;
    if (const std::size_t end = newlines_end(classes, text, pos)) return end;
    return spaces_end(classes, text, pos);
  }

 private:
  std::size_t digits_end(const CharClasses& classes, std::string_view text, std::size_t pos) const {
    for (unsigned count = 0; count < max_digits_; ++count) {
      const CharClasses::Char c = classes.at(text, pos);
      if (!(c.flags & kNumber)) break;
      pos += c.length;
    }
    return pos;
  }

  /// ` ?[^\s\p{N}word]+[\r\n]*`; 0 when it does not match.
  std::size_t symbols_end(const CharClasses& classes, std::string_view text, std::size_t pos) const {
    const unsigned excluded = kSpace | kNumber | word_;
    const std::size_t start = pos + (text[pos] == ' ');
    const std::size_t end = classes.skip_without(text, start, excluded);
    return end > start ? classes.skip(text, end, kNewline) : 0;
  }

  /// `\s*[\r\n]+`: up to the last newline of the run of spaces; 0 when there is none.
  static std::size_t newlines_end(const CharClasses& classes, std::string_view text, std::size_t pos) {
    const std::size_t run_end = classes.skip(text, pos, kSpace);
    const std::size_t last = text.substr(pos, run_end - pos).find_last_of("\r\n");
    return last == std::string_view::npos ? 0 : pos + last + 1;
  }

  unsigned word_;
  unsigned max_digits_;
};

template <typename Rules>
class Scanner : public Splitter {
 public:
  explicit Scanner(Rules rules) : rules_(rules) {}

  void split(std::string_view text, PieceSink& sink) const override {
    const CharClasses& classes = CharClasses::get();
    for (std::size_t pos = 0; pos < text.size();) {
      const std::size_t end = rules_.word_end(classes, text, pos);
      sink.take(text.substr(pos, end - pos));
      pos = end;
    }
  }

 private:
  Rules rules_;
};

template <typename Rules>
std::unique_ptr<const Splitter> scanner(Rules rules) {
  return std::make_unique<Scanner<Rules>>(rules);
}

struct ScannerInfo {
  SplitFamily family;
  std::unique_ptr<const Splitter> (*make)();
};
constexpr std::array kScanners = {
    ScannerInfo{SplitFamily::gpt2, [] { return scanner(Gpt2Rules{}); }},
    ScannerInfo{SplitFamily::llama3, [] { return scanner(Gpt4Rules(kLetter, 3)); }},
    ScannerInfo{SplitFamily::qwen2, [] { return scanner(Gpt4Rules(kLetter, 1)); }},
    ScannerInfo{SplitFamily::qwen35, [] { return scanner(Gpt4Rules(kLetter | kMark, 1)); }},
};

}  // namespace

std::unique_ptr<const Splitter> make_scanner(SplitFamily family) {
  for (const ScannerInfo& info : kScanners)
    if (info.family == family) return info.make();
  return nullptr;
}

}  // namespace adze
