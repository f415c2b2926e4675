#include "text/bpe.h"

#include <algorithm>
#include <bit>
#include <queue>
#include <span>

#include "text/utf8.h"

namespace adze {
namespace {

using Ids = std::vector<std::int32_t>;
using Merge = MergeTable::Merge;

constexpr std::size_t kShortWord = 48;  // symbols; scanning beats the heap up to about here

/// Merges ids[0, count) in place by repeated search for the lowest rank; returns the new count.
std::size_t merge_short(const MergeTable& table, std::int32_t* ids, std::size_t count) {
  Merge pairs[kShortWord];  // pairs[i] is the merge of symbols i and i + 1
  for (std::size_t i = 0; i + 1 < count; ++i) pairs[i] = table.find(ids[i], ids[i + 1]);
  while (count > 1) {
    std::size_t best = 0;
    for (std::size_t i = 1; i + 1 < count; ++i)
      if (pairs[i].rank < pairs[best].rank) best = i;
    if (pairs[best].rank == MergeTable::kNoRank) break;
    ids[best] = pairs[best].merged;
    std::copy(ids + best + 2, ids + count, ids + best + 1);
    std::copy(pairs + best + 1, pairs + count - 1, pairs + best);
    --count;
    if (best > 0) pairs[best - 1] = table.find(ids[best - 1], ids[best]);
    if (best + 1 < count) pairs[best] = table.find(ids[best], ids[best + 1]);
  }
  return count;
}

/// The same for long words: a linked list of symbols and a heap of (rank, position).
class LongMerger {
 public:
  LongMerger(const MergeTable& table, std::span<std::int32_t> ids) : table_(table), ids_(ids), nodes_(ids.size()) {
    for (std::uint32_t i = 0; i < nodes_.size(); ++i) nodes_[i] = {i - 1, i + 1};
    std::vector<Candidate> candidates;
    for (std::uint32_t i = 0; i + 1 < nodes_.size(); ++i)
      if (const auto candidate = candidate_at(i)) candidates.push_back(*candidate);
    heap_ = Heap(std::greater<>(), std::move(candidates));
  }

  /// Merges all and moves the remaining ids to the front; returns their count.
  std::size_t run() {
    while (!heap_.empty()) {
      const Candidate candidate = heap_.top();
      heap_.pop();
      if (is_current(candidate)) apply(candidate);
    }
    return compact();
  }

 private:
  struct Node {
    std::uint32_t previous, next;  // next == size: the end; the first one's previous is not used
  };
  struct Candidate {
    std::uint64_t rank_and_position;
    std::int32_t merged;
    std::uint32_t position() const { return static_cast<std::uint32_t>(rank_and_position); }
    bool operator>(const Candidate& other) const { return rank_and_position > other.rank_and_position; }
  };
  using Heap = std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>>;
  static constexpr std::int32_t kDead = -1;

  std::optional<Candidate> candidate_at(std::uint32_t position) const {
    const std::uint32_t next = nodes_[position].next;
    if (next >= nodes_.size()) return std::nullopt;
    const Merge merge = table_.find(ids_[position], ids_[next]);
    if (merge.rank == MergeTable::kNoRank) return std::nullopt;
    return Candidate{std::uint64_t{merge.rank} << 32 | position, merge.merged};
  }

  /// False when one of the two symbols has been merged away since.
  bool is_current(const Candidate& candidate) const {
    if (ids_[candidate.position()] == kDead) return false;
    const auto now = candidate_at(candidate.position());
    return now && now->rank_and_position == candidate.rank_and_position;
  }

  void apply(const Candidate& candidate) {
    const std::uint32_t left = candidate.position();
    const std::uint32_t right = nodes_[left].next;
    ids_[left] = candidate.merged;
    ids_[right] = kDead;
    nodes_[left].next = nodes_[right].next;
    if (nodes_[left].next < nodes_.size()) nodes_[nodes_[left].next].previous = left;
    if (left > 0) push(nodes_[left].previous);
    push(left);
  }
  void push(std::uint32_t position) {
    if (const auto candidate = candidate_at(position)) heap_.push(*candidate);
  }

  std::size_t compact() {
    const auto end = std::remove(ids_.begin(), ids_.end(), kDead);
    return static_cast<std::size_t>(end - ids_.begin());
  }

  const MergeTable& table_;
  std::span<std::int32_t> ids_;
  std::vector<Node> nodes_;
  Heap heap_;
};

}  // namespace

void CharacterIds::insert(char32_t character, std::int32_t id) {
  if (character >= kLowEnd) {
    high_[character] = id;
    return;
  }
  if (character >= low_.size()) low_.resize(character + 1, kNone);
  low_[character] = id;
}

MergeTable::MergeTable(const std::vector<MergeRule>& rules) {
  const std::size_t size = std::bit_ceil(std::max<std::size_t>(2 * rules.size(), 2));
  slots_.resize(size);
  mask_ = size - 1;
  shift_ = 64 - std::countr_zero(size);
  for (std::uint32_t rank = 0; rank < rules.size(); ++rank) {
    const std::uint64_t key = key_of(rules[rank].left, rules[rank].right);
    std::uint64_t slot = slot_of(key);
    while (slots_[slot].key != kEmpty && slots_[slot].key != key) slot = (slot + 1) & mask_;
    slots_[slot] = {key, {rank, rules[rank].merged}};
  }
}

void Bpe::encode_word(std::string_view word, Ids& ids) const {
  if (const auto id = whole_word(word)) return ids.push_back(*id);
  const std::size_t first = ids.size();
  rules_.unit == SymbolUnit::byte ? append_bytes(word, ids) : append_characters(word, ids);
  const std::size_t count = ids.size() - first;
  if (count < 2) return;
  const std::span<std::int32_t> symbols(ids.data() + first, count);
  const std::size_t left = count <= kShortWord ? merge_short(table_, symbols.data(), count)  //
                                               : LongMerger(table_, symbols).run();
  ids.resize(first + left);
}

void Bpe::append_unknown(bool after_unknown, Ids& ids) const {
  if (rules_.unknown_id != BpeRules::kNone && !(rules_.fuse_unknown && after_unknown)) ids.push_back(rules_.unknown_id);
}

void Bpe::append_bytes(std::string_view word, Ids& ids) const {
  bool after_unknown = false;
  for (const char byte : word) {
    const std::int32_t id = rules_.id_of_byte[static_cast<unsigned char>(byte)];
    const bool unknown = id == BpeRules::kNone;
    unknown ? append_unknown(after_unknown, ids) : ids.push_back(id);
    after_unknown = unknown;
  }
}

/// True when every byte of a missing character has an id.
bool Bpe::append_fallback(std::string_view character, Ids& ids) const {
  if (!rules_.byte_fallback) return false;
  const auto id_of = [&](char byte) { return rules_.id_of_byte[static_cast<unsigned char>(byte)]; };
  if (!std::ranges::all_of(character, [&](char byte) { return id_of(byte) != BpeRules::kNone; })) return false;
  for (const char byte : character) ids.push_back(id_of(byte));
  return true;
}

void Bpe::append_characters(std::string_view word, Ids& ids) const {
  bool after_unknown = false;
  for (std::size_t pos = 0; pos < word.size();) {
    const CodePoint point = code_point_at(word, pos);
    const std::int32_t id = rules_.id_of_character.find(point.value);
    bool unknown = false;
    if (id != BpeRules::kNone) {
      ids.push_back(id);
    } else if (!append_fallback(word.substr(pos, point.length), ids)) {
      unknown = true;
      append_unknown(after_unknown, ids);
    }
    after_unknown = unknown;
    pos += point.length;
  }
}

std::optional<std::int32_t> Bpe::whole_word(std::string_view word) const {
  if (rules_.whole_words.empty()) return std::nullopt;
  const auto found = rules_.whole_words.find(std::string(word));
  return found == rules_.whole_words.end() ? std::nullopt : std::optional(found->second);
}

}  // namespace adze
