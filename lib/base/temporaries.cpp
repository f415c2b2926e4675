#include "base/temporaries.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <climits>
#include <cstring>
#include <mutex>
#include <string>

namespace adze {
namespace {

struct Slot {
  std::atomic<bool> used{false};  ///< the name is complete
  std::atomic<bool> is_folder{false};
  std::array<char, PATH_MAX> name{};
};

static_assert(std::atomic<bool>::is_always_lock_free, "else a handler could wait for itself");

std::array<Slot, kMostTemporaries> g_slots;
std::mutex g_writers;  // never taken by the handler

bool keep_name(const std::filesystem::path& path, bool is_folder) {
  const std::string& name = path.native();
  const std::scoped_lock lock(g_writers);
  const auto slot = std::ranges::find_if(g_slots, [](const Slot& s) { return !s.used; });
  if (slot == g_slots.end() || name.size() >= slot->name.size()) return false;
  *std::ranges::copy(name, slot->name.begin()).out = '\0';
  slot->is_folder = is_folder;
  slot->used = true;
  return true;
}

/// Removes `name` and what is in it. Links are removed, not followed. System calls only: readdir() may allocate.
void remove_folder(int parent, const char* name, int depth) noexcept {
  const int folder = ::openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (folder < 0) return;
  alignas(dirent64) char entries[4096];
  for (ssize_t bytes = 0; (bytes = ::getdents64(folder, entries, sizeof(entries))) > 0;)
    for (ssize_t at = 0; at < bytes;) {
      const auto* const entry = reinterpret_cast<const dirent64*>(entries + at);
      at += entry->d_reclen;
      if (std::strcmp(entry->d_name, ".") == 0 || std::strcmp(entry->d_name, "..") == 0) continue;
      if (::unlinkat(folder, entry->d_name, 0) != 0 && depth > 1) remove_folder(folder, entry->d_name, depth - 1);
    }
  ::close(folder);
  ::unlinkat(parent, name, AT_REMOVEDIR);
}

/// Several times: another thread may be making files meanwhile.
void remove_folder(const char* name) noexcept {
  constexpr int kTries = 8;
  for (int i = 0; i < kTries && ::access(name, F_OK) == 0; ++i) remove_folder(AT_FDCWD, name, kTemporaryDepth);
}

}  // namespace

bool register_temporary(const std::filesystem::path& path) { return keep_name(path, false); }
bool register_temporary_folder(const std::filesystem::path& path) { return keep_name(path, true); }

void forget_temporary(const std::filesystem::path& path) {
  const std::scoped_lock lock(g_writers);
  const auto slot =
      std::ranges::find_if(g_slots, [&](const Slot& s) { return s.used && path.native() == s.name.data(); });
  if (slot != g_slots.end()) slot->used = false;
}

void unlink_temporaries() noexcept {
  // Newest first: a file that another thread is renaming to an older temporary name is then caught under one of them.
  for (std::size_t i = g_slots.size(); i-- > 0;)
    if (g_slots[i].used && !g_slots[i].is_folder) ::unlink(g_slots[i].name.data());
  for (const Slot& slot : g_slots)
    if (slot.used && slot.is_folder) remove_folder(slot.name.data());
}

}  // namespace adze
