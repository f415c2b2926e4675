// One step of pre-tokenization: cuts a piece of text into smaller pieces. Steps are chained through PieceSink, so that
// words stream to the model and no list of all words of a text exists.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace adze {

class PieceSink {
 public:
  virtual ~PieceSink() = default;
  /// Takes one non-empty piece; the view is valid during the call.
  virtual void take(std::string_view piece) = 0;
};

/// Immutable and safe from any thread. Pieces come in text order; empty ones are left out.
class Splitter {
 public:
  virtual ~Splitter() = default;
  virtual void split(std::string_view text, PieceSink& sink) const = 0;
};

/// What becomes of the matches of a pattern and of the gaps between them ("behavior" in the file).
enum class SplitBehavior : std::uint8_t { removed, isolated, merged_with_previous, merged_with_next, contiguous };
std::optional<SplitBehavior> split_behavior_from_name(std::string_view name);

struct SplitRule {
  SplitBehavior behavior = SplitBehavior::isolated;
  bool invert = false;  ///< swaps matches and gaps
};

/// Splits at a regular expression in Oniguruma syntax. Throws bad_data when it is malformed or uses a construct that
/// PCRE2 reads differently. Splitting throws bad_data when the expression backtracks beyond any reason.
std::unique_ptr<const Splitter> make_regex_splitter(std::string_view pattern, SplitRule rule);
/// Splits at a literal, non-empty string.
std::unique_ptr<const Splitter> make_literal_splitter(std::string literal, SplitRule rule);
/// Splits at characters with any CharFlag of `flags`; each one is a match of its own.
std::unique_ptr<const Splitter> make_char_splitter(std::uint16_t flags, SplitRule rule);
/// Splits nothing, but puts a space before each piece that does not start with one.
std::unique_ptr<const Splitter> make_space_prefixer();

}  // namespace adze
