// Added tokens: strings that are found in the text before anything else is done to it, each one token. Leftmost-longest
// matching with a trie, with the single_word, lstrip and rstrip rules of the reference.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace adze {

struct AddedToken {
  std::int32_t id = 0;
  std::string content;
  bool single_word = false;  ///< not when a word character touches it
  bool lstrip = false;       ///< swallows the spaces before it
  bool rstrip = false;       ///< swallows the spaces after it
  bool normalized = false;   ///< looked for in the normalized text
  bool special = false;
};

/// Field "added_tokens". Throws bad_data: wrong types, empty or overlong content, an id or a content twice.
std::vector<AddedToken> parse_added_tokens(const nlohmann::json& value);

/// Finds tokens of one set in text. Immutable and safe from any thread.
class AddedTokenFinder {
 public:
  AddedTokenFinder() = default;
  /// Each pattern is what to look for and the token it stands for; of equal patterns the first counts.
  explicit AddedTokenFinder(const std::vector<std::pair<std::string, AddedToken>>& patterns);

  bool empty() const { return tokens_.empty(); }

  struct Piece {
    std::string_view text;              ///< not empty
    const AddedToken* token = nullptr;  ///< null: ordinary text
  };
  /// Calls take(piece) for each piece of well-formed text, in order. With `with_special` false, special tokens are not
  /// recognised: their text stays text.
  void split(std::string_view text, bool with_special, const std::function<void(const Piece&)>& take) const;

 private:
  struct Node {
    std::vector<std::pair<unsigned char, std::uint32_t>> children;  // sorted by byte
    std::int32_t token = -1;
  };
  struct Found {
    std::size_t end = 0;
    const AddedToken* token = nullptr;
  };

  void insert(std::string_view pattern, std::int32_t token);
  const std::uint32_t* child(std::uint32_t node, unsigned char byte) const;
  Found longest_at(std::string_view text, std::size_t pos) const;

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_;
  std::array<bool, 256> starts_{};  // bytes that some pattern starts with
};

}  // namespace adze
