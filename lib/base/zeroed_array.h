// An owner of a fixed number of elements whose bytes are zero at first. Not a std::vector, because a vector writes
// those zeros, page by page from one thread, before anybody needs them; here the system hands out zero pages to
// whichever thread touches them first, which for large matrices saves a pass over memory and shares the rest.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <type_traits>

namespace adze {

/// T: any type for which zero bytes are a value, and copying bytes copies it.
template <typename T>
class ZeroedArray {
  static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>);

 public:
  ZeroedArray() = default;
  /// Throws std::bad_alloc, also when the size in bytes overflows.
  explicit ZeroedArray(std::size_t size) : values_(zeroed(size)), size_(size) {}
  ZeroedArray(const ZeroedArray& other) : ZeroedArray(other.size_) { std::ranges::copy(other, begin()); }
  ZeroedArray(ZeroedArray&& other) noexcept { swap(other); }
  ZeroedArray& operator=(ZeroedArray other) noexcept {
    swap(other);
    return *this;
  }

  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  T* data() { return values_.get(); }
  const T* data() const { return values_.get(); }
  T* begin() { return data(); }
  T* end() { return data() + size_; }
  const T* begin() const { return data(); }
  const T* end() const { return data() + size_; }
  T& operator[](std::size_t i) { return data()[i]; }
  const T& operator[](std::size_t i) const { return data()[i]; }
  bool operator==(const ZeroedArray& other) const { return std::ranges::equal(*this, other); }

 private:
  struct Free {
    void operator()(T* values) const { std::free(values); }
  };
  static T* zeroed(std::size_t size) {
    if (size == 0) return nullptr;
    if (size > static_cast<std::size_t>(PTRDIFF_MAX) / sizeof(T)) throw std::bad_alloc();
    auto* values = static_cast<T*>(std::calloc(size, sizeof(T)));
    if (values == nullptr) throw std::bad_alloc();
    return values;
  }
  void swap(ZeroedArray& other) noexcept {
    std::swap(values_, other.values_);
    std::swap(size_, other.size_);
  }

  std::unique_ptr<T[], Free> values_;
  std::size_t size_ = 0;
};

}  // namespace adze
