#include "base/background.h"

namespace adze {

Background::~Background() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  begun_.notify_one();
  thread_.join();
}

bool Background::has_room(std::uint64_t bytes) const {
  return tasks_.empty() || (bytes <= most_ && held_ <= most_ - bytes);
}

void Background::rethrow() {
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

void Background::add(Entry entry) {
  {
    std::unique_lock lock(mutex_);
    ended_.wait(lock, [&] { return has_room(entry.bytes); });
    rethrow();
    held_ += entry.bytes;
    tasks_.push_back(std::move(entry));
    if (!thread_.joinable()) thread_ = std::thread([this] { work(); });
  }
  begun_.notify_one();
}

void Background::wait() {
  std::unique_lock lock(mutex_);
  ended_.wait(lock, [&] { return tasks_.empty(); });
  rethrow();
}

void Background::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    begun_.wait(lock, [&] { return closing_ || !tasks_.empty(); });
    if (tasks_.empty()) return;
    Entry& entry = tasks_.front();  // stays where it is while others are added
    lock.unlock();
    std::exception_ptr error;
    try {
      auto result = entry.task.get_future();
      entry.task();
      entry.task = {};  // what it held is free before there is room for more
      result.get();
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    held_ -= entry.bytes;
    tasks_.pop_front();
    if (error) {  // what waited would come after a gap
      error_ = error;
      tasks_.clear();
      held_ = 0;
    }
    ended_.notify_all();
  }
}

}  // namespace adze
