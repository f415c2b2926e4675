// Byte-pair merging on ids: a word becomes one symbol per byte or per character, then the adjacent pair with the lowest
// rank is merged, leftmost first among equals, until no pair has a rule. Short words by scanning, long ones with a
// heap, so that a megabyte of one letter costs n log n.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace adze {

struct MergeRule {
  std::int32_t left = 0, right = 0;  ///< ids of the halves
  std::int32_t merged = 0;           ///< id of the joined token
};

/// Hash table from a pair of ids to its merge; open addressing, half full at most.
class MergeTable {
 public:
  static constexpr std::uint32_t kNoRank = UINT32_MAX;
  struct Merge {
    std::uint32_t rank = kNoRank;
    std::int32_t merged = 0;
  };

  MergeTable() : MergeTable(std::vector<MergeRule>{}) {}
  /// Rank = index. Of equal pairs the later one counts.
  explicit MergeTable(const std::vector<MergeRule>& rules);

  /// rank is kNoRank when the pair has no rule.
  Merge find(std::int32_t left, std::int32_t right) const {
    const std::uint64_t key = key_of(left, right);
    for (std::uint64_t slot = slot_of(key);; slot = (slot + 1) & mask_) {
      if (slots_[slot].key == key) return slots_[slot].merge;
      if (slots_[slot].key == kEmpty) return {};
    }
  }

 private:
  static constexpr std::uint64_t kEmpty = UINT64_MAX;  // ids are not negative, so no pair has this key
  struct Slot {
    std::uint64_t key = kEmpty;
    Merge merge;
  };
  static std::uint64_t key_of(std::int32_t left, std::int32_t right) {
    return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 | static_cast<std::uint32_t>(right);
  }
  std::uint64_t slot_of(std::uint64_t key) const { return (key * 0x9E3779B97F4A7C15ULL) >> shift_; }

  std::vector<Slot> slots_;
  std::uint64_t mask_ = 0;
  int shift_ = 0;
};

/// Ids of the tokens that are one character.
class CharacterIds {
 public:
  static constexpr std::int32_t kNone = -1;

  void insert(char32_t character, std::int32_t id);
  std::int32_t find(char32_t character) const {
    if (character < low_.size()) return low_[character];
    const auto found = high_.find(character);
    return found == high_.end() ? kNone : found->second;
  }

 private:
  static constexpr char32_t kLowEnd = 0x10000;
  std::vector<std::int32_t> low_;  ///< by character, as far as needed
  std::unordered_map<char32_t, std::int32_t> high_;
};

/// What the first symbols of a word are.
enum class SymbolUnit : std::uint8_t { byte, character };

/// What a BPE model consists of.
struct BpeRules {
  static constexpr std::int32_t kNone = -1;
  SymbolUnit unit = SymbolUnit::byte;
  std::array<std::int32_t, 256> id_of_byte{};  ///< kNone where the vocabulary lacks the byte
  CharacterIds id_of_character;                ///< for SymbolUnit::character
  bool byte_fallback = false;                  ///< a missing character becomes its bytes, if all of them have ids
  std::vector<MergeRule> merges;               ///< by rank
  std::int32_t unknown_id = kNone;             ///< stands for a missing symbol; kNone drops it
  bool fuse_unknown = false;                   ///< one unknown_id for several missing symbols in a row
  /// ignore_merges: whole words (as text) that are tokens by themselves. Empty otherwise.
  std::unordered_map<std::string, std::int32_t> whole_words;
};

/// Immutable and safe from any thread.
class Bpe {
 public:
  explicit Bpe(BpeRules rules) : rules_(std::move(rules)), table_(rules_.merges) {}

  /// Appends the ids of one word, given as bytes; well-formed UTF-8 for characters. word.size() < 2^31.
  void encode_word(std::string_view word, std::vector<std::int32_t>& ids) const;

 private:
  void append_bytes(std::string_view word, std::vector<std::int32_t>& ids) const;
  void append_characters(std::string_view word, std::vector<std::int32_t>& ids) const;
  bool append_fallback(std::string_view character, std::vector<std::int32_t>& ids) const;
  void append_unknown(bool after_unknown, std::vector<std::int32_t>& ids) const;
  std::optional<std::int32_t> whole_word(std::string_view word) const;

  BpeRules rules_;
  MergeTable table_;
};

}  // namespace adze
