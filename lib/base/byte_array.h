// Bytes whose number is known before they are: memory that nobody fills with zeros first, as a std::vector would, which
// for large tensors is a pass over memory as long as that of the bytes themselves. A vector can be taken over as it is.
// Whoever asks for a number of bytes writes all of them.
//
// They begin with a page. Files are read piece by piece from whole pages on, and processors that copy fast (FSRM) copy
// at a tenth of their speed to an address that is 1 to 31 bytes further into its page than the one that they copy from,
// as that of every large std::vector is. Large ones take memory in few sizes: what one leaves fits the next one of
// nearly the same size, and memory that is used for the first time costs more than all that is done with it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace adze {

class ByteArray {
 public:
  ByteArray() = default;
  /// `size` bytes of any value.
  explicit ByteArray(std::size_t size) : memory_(allocated(size)), size_(size) {}
  ByteArray(std::vector<std::byte> bytes) : vector_(std::move(bytes)), size_(vector_.size()) {}
  ByteArray(ByteArray&& other) noexcept { swap(other); }
  ByteArray& operator=(ByteArray other) noexcept {
    swap(other);
    return *this;
  }

  /// All of them, as a vector: without a copy where one was taken over.
  std::vector<std::byte> take() && { return memory_ ? std::vector<std::byte>(begin(), end()) : std::move(vector_); }

  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  std::byte* data() { return memory_ ? page_in(memory_.get()) : vector_.data(); }
  const std::byte* data() const { return memory_ ? page_in(memory_.get()) : vector_.data(); }
  std::byte* begin() { return data(); }
  std::byte* end() { return data() + size_; }
  const std::byte* begin() const { return data(); }
  const std::byte* end() const { return data() + size_; }

 private:
  static constexpr std::size_t kPage = 4096;

  /// Room for `size` bytes from a page on. Aligned memory of the library would not do: what is freed of it is too short
  /// for as much again.
  static std::unique_ptr<std::byte[]> allocated(std::size_t size);
  /// Where the first page begins.
  static std::byte* page_in(std::byte* memory) {
    return memory + (kPage - reinterpret_cast<std::uintptr_t>(memory) % kPage) % kPage;
  }

  void swap(ByteArray& other) noexcept {
    std::swap(memory_, other.memory_);
    std::swap(vector_, other.vector_);
    std::swap(size_, other.size_);
  }

  std::unique_ptr<std::byte[]> memory_;  ///< or else vector_
  std::vector<std::byte> vector_;
  std::size_t size_ = 0;
};

inline ByteArray copied(std::span<const std::byte> bytes) {
  ByteArray copy(bytes.size());
  if (!bytes.empty()) std::memcpy(copy.data(), bytes.data(), bytes.size());
  return copy;
}

}  // namespace adze
