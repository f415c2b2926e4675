// PCRE2 in UTF and UCP mode behind a small type. For split patterns that have no scanner of their own, and as the judge
// of those that have one. Backtracking is bounded: an expression that explodes is an error, not a hang.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace adze {

/// Immutable and safe from any thread.
class Regex {
 public:
  /// `pattern` in PCRE2 syntax; ^ and $ match at line ends. Throws bad_data with PCRE2's message and position.
  explicit Regex(std::string_view pattern);

  struct Match {
    std::size_t begin = 0, end = 0;
  };

  /// Walks over the non-overlapping matches of one well-formed text, from left to right.
  class Matcher {
   public:
    Matcher(const Regex& regex, std::string_view text);
    ~Matcher();
    Matcher(const Matcher&) = delete;
    Matcher& operator=(const Matcher&) = delete;

    /// The next match; it may be empty. Throws bad_data when the backtracking limit is reached.
    std::optional<Match> next();

   private:
    struct State;
    std::unique_ptr<State> state_;
  };

 private:
  struct Code;
  std::shared_ptr<const Code> code_;
};

}  // namespace adze
