// Tasks one after the other on a thread beside the caller's: what writes a piece while the next one is made, or flushes
// a file while it is read back.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <future>
#include <limits>
#include <mutex>
#include <thread>
#include <utility>

namespace adze {

class Background {
 public:
  /// most_bytes: that all tasks together may hold which have not ended.
  explicit Background(std::uint64_t most_bytes = 0) : most_(most_bytes) {}
  /// Waits; what a task throws is lost then: wait() where it matters.
  ~Background();
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;

  /// bytes: that the task holds until it ends. Waits until there is room for them, or for every task before it, and
  /// rethrows what one of those threw, in which case neither this one nor those that waited begin.
  template <typename Task>
  void run(Task&& task, std::uint64_t bytes = std::numeric_limits<std::uint64_t>::max()) {
    add({std::packaged_task<void()>(std::forward<Task>(task)), bytes});
  }

  /// Until every task has ended. Rethrows what one of them threw, once.
  void wait();

 private:
  struct Entry {
    std::packaged_task<void()> task;
    std::uint64_t bytes = 0;
  };

  void add(Entry entry);
  bool has_room(std::uint64_t bytes) const;
  void rethrow();
  /// Of the thread.
  void work();

  const std::uint64_t most_;
  std::mutex mutex_;  ///< of all below
  std::condition_variable begun_, ended_;
  std::deque<Entry> tasks_;  ///< the front one runs
  std::uint64_t held_ = 0;   ///< by them
  std::exception_ptr error_;
  bool closing_ = false;
  std::thread thread_;  ///< from the first task on
};

}  // namespace adze
