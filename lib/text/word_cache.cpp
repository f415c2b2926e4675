#include "text/word_cache.h"

#include <utility>

namespace adze {

void WordCache::insert(std::string_view word, std::span<const std::int32_t> ids) {
  if (word.size() > kMaxWordBytes || ids.empty()) return;
  if (2 * used_ >= slots_.size()) {
    if (slots_.size() == kMaxSlots) return;
    grow();
  }
  const Slot slot{hash_of(word), static_cast<std::uint32_t>(text_.size()), static_cast<std::uint32_t>(ids_.size()),
                  static_cast<std::uint16_t>(word.size()), static_cast<std::uint16_t>(ids.size())};
  if (!place(slot)) return;
  text_ += word;
  ids_.insert(ids_.end(), ids.begin(), ids.end());
}

bool WordCache::place(const Slot& slot) {
  for (std::size_t probe = 0; probe < kMaxProbes; ++probe) {
    Slot& candidate = slots_[(slot.hash + probe) & (slots_.size() - 1)];
    if (candidate.count != 0) continue;
    candidate = slot;
    ++used_;
    return true;
  }
  return false;
}

void WordCache::grow() {
  const std::vector<Slot> old = std::exchange(slots_, std::vector<Slot>(2 * slots_.size()));
  used_ = 0;
  for (const Slot& slot : old)
    if (slot.count != 0) place(slot);
}

}  // namespace adze
