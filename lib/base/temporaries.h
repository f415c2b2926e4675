// Names of files that are being written, so that a signal handler can remove them before it ends the program: then no
// destructor runs. A fixed table, because a handler may neither allocate nor wait for a lock.
//
// Register a name before the file is created and forget it when the file is gone or has its final name. Names that do
// not fit (longer than the system takes, or more than kMostTemporaries at once) are not kept; such a file would stay.
#pragma once

#include <cstddef>
#include <filesystem>

namespace adze {

inline constexpr std::size_t kMostTemporaries = 32;  // a program writes two or three at a time

/// From any thread. False when the name does not fit.
bool register_temporary(const std::filesystem::path& path);

/// The same for a folder that is being filled: all files in it and in folders of it go too, down to kTemporaryDepth.
bool register_temporary_folder(const std::filesystem::path& path);
inline constexpr int kTemporaryDepth = 4;

/// Does nothing for a name that is not registered.
void forget_temporary(const std::filesystem::path& path);

/// Removes all registered files, then folders. Async-signal-safe; the program must end after it.
void unlink_temporaries() noexcept;

}  // namespace adze
