// Calibration sets: text and a rule become token windows. Also what evaluation reads.
//
// The rule: texts are joined as the set says, tokenized as one stream without special tokens, and cut into consecutive
// windows. Where the tokenizer puts a beginning-of-text token, every window starts with it. Seed 0 takes the first
// windows; any other seed draws that many at random, without repetition, and keeps them in the order of the text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <unordered_set>
#include <vector>

#include "recipe/text_set.h"
#include "text/tokenizer.h"

namespace adze {

/// Token ids of a whole set. Special tokens written in the text stay text.
/// Throws bad_data, naming the file and the byte, for text that is empty or no UTF-8, broken JSON lines and ids outside
/// the vocabulary; missing_input for missing files.
std::vector<std::int32_t> tokenize_set(const TextSet& set, const Tokenizer& tokenizer);

struct WindowRule {
  std::size_t windows = 128;
  std::size_t tokens = 512;
  std::uint64_t seed = 0;
};

struct TokenWindows {
  std::size_t tokens = 0;         ///< per window
  std::vector<std::int32_t> ids;  ///< [windows x tokens]

  std::size_t count() const { return tokens == 0 ? 0 : ids.size() / tokens; }
  std::span<const std::int32_t> window(std::size_t w) const { return std::span(ids).subspan(w * tokens, tokens); }
  /// The first `wanted` of them.
  TokenWindows first(std::size_t wanted) const;
  /// Identity of the content.
  std::string hash() const;
};

/// `prefix`: ids at the start of every window. Throws bad_data when the stream holds fewer windows than asked, with
/// both numbers; `origin` names the set.
TokenWindows cut_windows(std::span<const std::int32_t> stream, std::span<const std::int32_t> prefix,
                         const WindowRule& rule, const std::string& origin);

/// `draws` calibration sets that share no window: the windows of the stream are shuffled by the seed (of 0, too), and
/// each draw takes the next rule.windows of them. The first windows of a draw are a smaller draw. Throws as
/// cut_windows.
std::vector<TokenWindows> cut_draws(std::span<const std::int32_t> stream, std::span<const std::int32_t> prefix,
                                    const WindowRule& rule, std::size_t draws, const std::string& origin);

/// The three steps: load_text_set, tokenize_set, cut_windows with the tokenizer's prefix.
TokenWindows load_windows(const std::filesystem::path& set, const Tokenizer& tokenizer, const WindowRule& rule);

/// What counts as a passage that two texts share: 64 tokens, or half a window where windows are shorter than two.
std::size_t passage_tokens(std::size_t window);

/// The passages of some windows, hashed once for however many texts they are looked for in.
class Passages {
 public:
  explicit Passages(const TokenWindows& windows);
  /// Share of the passages of `text` that occur in the windows too: 0 for texts that have nothing in common.
  double share_of(std::span<const std::int32_t> text) const;

 private:
  std::size_t length_;                        ///< of a passage, tokens
  std::unordered_set<std::uint64_t> hashes_;  ///< looked up only: its order reaches no result
};

/// The same for one text. A judgement on text that was calibrated with is worthless; above 0.1 % the specification
/// (evaluation, rule 5) calls it an error.
double shared_text(const TokenWindows& windows, std::span<const std::int32_t> text);

}  // namespace adze
