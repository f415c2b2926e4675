// Words repeat: within one encode() call the ids of short words are kept, so that most words cost one hash and one
// compare. The cache lives and dies with the call: no state is shared between threads and results cannot depend on
// history.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace adze {

class WordCache {
 public:
  static constexpr std::size_t kMaxWordBytes = 64;  // longer words hardly ever repeat

  WordCache() : slots_(kFirstSlots) {}

  /// The ids kept for `word`, or nothing when it is not here (an empty list of ids counts as nothing). The span is
  /// valid until the next insert.
  std::span<const std::int32_t> find(std::string_view word) const {
    const std::uint64_t hash = hash_of(word);
    for (std::size_t probe = 0; probe < kMaxProbes; ++probe) {
      const Slot& slot = slots_[(hash + probe) & (slots_.size() - 1)];
      if (slot.count == 0) return {};
      if (slot.hash == hash && slot.bytes == word.size() &&
          std::memcmp(&text_[slot.text], word.data(), word.size()) == 0)
        return {&ids_[slot.first], slot.count};
    }
    return {};
  }

  /// Keeps the ids of a word that find() did not know. A full neighbourhood or a full cache drops it.
  void insert(std::string_view word, std::span<const std::int32_t> ids);

 private:
  static constexpr std::size_t kFirstSlots = 1 << 9;
  static constexpr std::size_t kMaxSlots = 1 << 17;  // 3 MiB: about the last-level cache
  static constexpr std::size_t kMaxProbes = 8;       // bounds what colliding words can cost

  struct Slot {
    std::uint64_t hash = 0;
    std::uint32_t text = 0;   // offset in text_
    std::uint32_t first = 0;  // offset in ids_
    std::uint16_t bytes = 0;
    std::uint16_t count = 0;  // of ids; 0: empty slot
  };

  static std::uint64_t load(const char* from, std::size_t count) {
    std::uint64_t value = 0;
    std::memcpy(&value, from, count);
    return value;
  }
  static std::uint64_t mix(std::uint64_t value) {
    value *= 0x9E3779B97F4A7C15ULL;
    return value ^ (value >> 32);
  }
  static std::uint64_t hash_of(std::string_view word) {
    std::uint64_t hash = word.size();
    std::size_t pos = 0;
    for (; word.size() - pos >= 8; pos += 8) hash = mix(hash ^ load(word.data() + pos, 8));
    return mix(mix(hash ^ load(word.data() + pos, word.size() - pos)));
  }
  bool place(const Slot& slot);
  void grow();

  std::vector<Slot> slots_;  // a power of two
  std::size_t used_ = 0;
  std::string text_;
  std::vector<std::int32_t> ids_;
};

}  // namespace adze
