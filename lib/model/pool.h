// Scratch objects for parallel loops: each iteration borrows one and gives it back, so there are as many as run at
// once, their memory is reused (fresh pages cost a third of a small block's time), and all of it goes when the pool
// goes. Which object an iteration gets is chance: it must overwrite what it reads.
#pragma once

#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace adze {

template <typename T>
class Pool {
 public:
  /// A borrowed object; returns it when destroyed. Must not outlive the pool.
  class Lease {
   public:
    Lease(Pool& pool, std::unique_ptr<T> object) : pool_(pool), object_(std::move(object)) {}
    ~Lease() { pool_.give_back(std::move(object_)); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    T& operator*() const { return *object_; }
    T* operator->() const { return object_.get(); }

   private:
    Pool& pool_;
    std::unique_ptr<T> object_;
  };

  Lease borrow() {
    const std::lock_guard lock(mutex_);
    if (free_.empty()) free_.push_back(std::make_unique<T>());
    std::unique_ptr<T> object = std::move(free_.back());
    free_.pop_back();
    return {*this, std::move(object)};
  }

  /// Calls body(object) for every one, when none is borrowed.
  template <typename Body>
  void for_each(Body&& body) const {
    for (const auto& object : free_) body(*object);
  }

 private:
  void give_back(std::unique_ptr<T> object) {
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(object));
  }

  std::mutex mutex_;
  std::vector<std::unique_ptr<T>> free_;
};

}  // namespace adze
