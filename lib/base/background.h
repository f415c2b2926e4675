// One task at a time on a thread beside the caller's: what writes a piece while the next one is made, or flushes a file
// while it is read back.
#pragma once

#include <future>
#include <utility>

namespace adze {

class Background {
 public:
  Background() = default;
  /// Waits; what the task throws is lost then: wait() where it matters.
  ~Background() = default;
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;

  /// Waits for the task before this one and rethrows what it threw; then begins this one.
  template <typename Task>
  void run(Task&& task) {
    wait();
    task_ = std::async(std::launch::async, std::forward<Task>(task));
  }

  /// Rethrows what the task threw, once. Nothing where none runs.
  void wait() {
    if (task_.valid()) task_.get();
  }

 private:
  std::future<void> task_;
};

}  // namespace adze
