#include "base/temporaries.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <climits>
#include <mutex>
#include <string>

namespace adze {
namespace {

struct Slot {
  std::atomic<bool> used{false};  ///< the name is complete
  std::array<char, PATH_MAX> name{};
};

static_assert(std::atomic<bool>::is_always_lock_free, "else a handler could wait for itself");

std::array<Slot, kMostTemporaries> g_slots;
std::mutex g_writers;  // never taken by the handler

}  // namespace

bool register_temporary(const std::filesystem::path& path) {
  const std::string& name = path.native();
  const std::scoped_lock lock(g_writers);
  const auto slot = std::ranges::find_if(g_slots, [](const Slot& s) { return !s.used; });
  if (slot == g_slots.end() || name.size() >= slot->name.size()) return false;
  *std::ranges::copy(name, slot->name.begin()).out = '\0';
  slot->used = true;
  return true;
}

void forget_temporary(const std::filesystem::path& path) {
  const std::scoped_lock lock(g_writers);
  const auto slot =
      std::ranges::find_if(g_slots, [&](const Slot& s) { return s.used && path.native() == s.name.data(); });
  if (slot != g_slots.end()) slot->used = false;
}

void unlink_temporaries() noexcept {
  // Newest first: a file that another thread is renaming to an older temporary name is then caught under one of them.
  for (std::size_t i = g_slots.size(); i-- > 0;)
    if (g_slots[i].used) ::unlink(g_slots[i].name.data());
}

}  // namespace adze
