#include "text/splitter.h"

#include <array>
#include <utility>
#include <vector>

#include "base/error.h"
#include "text/char_class.h"
#include "text/oniguruma.h"
#include "text/regex.h"

namespace adze {
namespace {

struct Span {
  std::size_t begin = 0, end = 0;
  bool is_match = false;
};

/// Matches and gaps of a text, alternating. An empty match stays in the list: it separates what lies around it.
class SpanList {
 public:
  SpanList(std::size_t text_size, bool invert) : text_size_(text_size), invert_(invert) {}

  void add_match(std::size_t begin, std::size_t end) {
    add_gap(begin);
    spans_.push_back({begin, end, !invert_});
    gap_begin_ = end;
  }
  std::vector<Span> finish() {
    add_gap(text_size_);
    return std::move(spans_);
  }

 private:
  void add_gap(std::size_t end) {
    if (gap_begin_ < end) spans_.push_back({gap_begin_, end, invert_});
  }

  std::size_t text_size_;
  bool invert_;
  std::size_t gap_begin_ = 0;
  std::vector<Span> spans_;
};

using Spans = std::vector<Span>;

Spans remove_matches(const Spans& spans) {
  Spans kept;
  for (const Span& span : spans)
    if (!span.is_match) kept.push_back(span);
  return kept;
}

Spans keep_all(const Spans& spans) { return spans; }

/// The first match of a row of matches joins the gap before it.
Spans join_previous(const Spans& spans) {
  Spans joined;
  bool after_match = false;
  for (const Span& span : spans) {
    if (span.is_match && !after_match && !joined.empty())
      joined.back().end = span.end;
    else
      joined.push_back(span);
    after_match = span.is_match;
  }
  return joined;
}

/// The last match of a row of matches joins the gap after it.
Spans join_next(const Spans& spans) {
  Spans joined;
  bool before_match = false;
  for (auto span = spans.rbegin(); span != spans.rend(); ++span) {
    if (span->is_match && !before_match && !joined.empty())
      joined.back().begin = span->begin;
    else
      joined.push_back(*span);
    before_match = span->is_match;
  }
  return {joined.rbegin(), joined.rend()};
}

/// Matches in a row join each other, and gaps in a row do.
Spans join_alike(const Spans& spans) {
  Spans joined;
  bool previous = false;
  for (const Span& span : spans) {
    if (span.is_match == previous && !joined.empty())
      joined.back().end = span.end;
    else
      joined.push_back(span);
    previous = span.is_match;
  }
  return joined;
}

struct BehaviorInfo {
  std::string_view name;
  SplitBehavior behavior;
  Spans (*apply)(const Spans&);
};
constexpr std::array kBehaviors = {
    BehaviorInfo{"Removed", SplitBehavior::removed, remove_matches},
    BehaviorInfo{"Isolated", SplitBehavior::isolated, keep_all},
    BehaviorInfo{"MergedWithPrevious", SplitBehavior::merged_with_previous, join_previous},
    BehaviorInfo{"MergedWithNext", SplitBehavior::merged_with_next, join_next},
    BehaviorInfo{"Contiguous", SplitBehavior::contiguous, join_alike},
};

/// Finds matches one after the other: next(text, from) is the first match at or after `from`.
template <typename Finder>
class PatternSplitter : public Splitter {
 public:
  PatternSplitter(Finder finder, SplitRule rule) : finder_(std::move(finder)), rule_(rule) {}

  void split(std::string_view text, PieceSink& sink) const override {
    SpanList list(text.size(), rule_.invert);
    finder_.each_match(text, [&](std::size_t begin, std::size_t end) { list.add_match(begin, end); });
    const BehaviorInfo& info = kBehaviors[static_cast<std::size_t>(rule_.behavior)];
    for (const Span& span : info.apply(list.finish()))
      if (span.begin < span.end) sink.take(text.substr(span.begin, span.end - span.begin));
  }

 private:
  Finder finder_;
  SplitRule rule_;
};

struct RegexFinder {
  Regex regex;
  template <typename Report>
  void each_match(std::string_view text, Report&& report) const {
    Regex::Matcher matcher(regex, text);
    while (const auto match = matcher.next()) report(match->begin, match->end);
  }
};

struct LiteralFinder {
  std::string literal;
  template <typename Report>
  void each_match(std::string_view text, Report&& report) const {
    for (auto at = text.find(literal); at != text.npos; at = text.find(literal, at + literal.size()))
      report(at, at + literal.size());
  }
};

struct CharFinder {
  std::uint16_t flags;
  template <typename Report>
  void each_match(std::string_view text, Report&& report) const {
    const CharClasses& classes = CharClasses::get();
    for (std::size_t pos = classes.skip_without(text, 0, flags); pos < text.size();) {
      const std::size_t end = pos + classes.at(text, pos).length;
      report(pos, end);
      pos = classes.skip_without(text, end, flags);
    }
  }
};

class SpacePrefixer : public Splitter {
 public:
  void split(std::string_view text, PieceSink& sink) const override {
    if (text.starts_with(' ')) return sink.take(text);
    sink.take(" " + std::string(text));
  }
};

}  // namespace

std::optional<SplitBehavior> split_behavior_from_name(std::string_view name) {
  for (const BehaviorInfo& info : kBehaviors)
    if (info.name == name) return info.behavior;
  return std::nullopt;
}

std::unique_ptr<const Splitter> make_regex_splitter(std::string_view pattern, SplitRule rule) {
  return std::make_unique<PatternSplitter<RegexFinder>>(RegexFinder{Regex(oniguruma_to_pcre2(pattern))}, rule);
}

std::unique_ptr<const Splitter> make_literal_splitter(std::string literal, SplitRule rule) {
  if (literal.empty()) fail(ErrorKind::bad_data, "an empty string cannot be a split pattern");
  return std::make_unique<PatternSplitter<LiteralFinder>>(LiteralFinder{std::move(literal)}, rule);
}

std::unique_ptr<const Splitter> make_char_splitter(std::uint16_t flags, SplitRule rule) {
  return std::make_unique<PatternSplitter<CharFinder>>(CharFinder{flags}, rule);
}

std::unique_ptr<const Splitter> make_space_prefixer() { return std::make_unique<SpacePrefixer>(); }

}  // namespace adze
