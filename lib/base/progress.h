// Progress and remarks leave the library through this interface; tools draw them, tests collect them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace adze {

class Progress {
 public:
  virtual ~Progress() = default;
  /// Work of `total` units begins, e.g. ("calibrating", 128 windows). Replaces the current one.
  virtual void start(std::string_view /*what*/, std::uint64_t /*total*/) {}
  /// `done` of the total units are finished. Calls come from one thread.
  virtual void update(std::uint64_t /*done*/) {}
  /// Something the user should read: a fallback taken, a value clipped.
  virtual void warn(const std::string& /*message*/) {}
  /// Detail for -v.
  virtual void note(const std::string& /*message*/) {}
};

/// A Progress that shows nothing.
Progress& silent_progress();

}  // namespace adze
