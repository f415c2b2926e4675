// Bytes whose number is known before they are: memory that nobody fills with zeros first, as a std::vector would, which
// for large tensors is a pass over memory as long as that of the bytes themselves. A vector can be taken over as it is.
// Whoever asks for a number of bytes writes all of them.
//
// They begin with a page. Files are read piece by piece from whole pages on, and processors that copy fast (FSRM) copy
// at a tenth of their speed to an address that is 1 to 31 bytes further into its page than the one that they copy from,
// as that of every large std::vector is.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <utility>
#include <vector>

namespace adze {

class ByteArray {
 public:
  ByteArray() = default;
  /// `size` bytes of any value.
  explicit ByteArray(std::size_t size)
      : bytes_(static_cast<std::byte*>(::operator new (size, std::align_val_t{kPage}))), size_(size) {}
  ByteArray(std::vector<std::byte> bytes) : vector_(std::move(bytes)), size_(vector_.size()) {}
  ByteArray(ByteArray&& other) noexcept { swap(other); }
  ByteArray& operator=(ByteArray other) noexcept {
    swap(other);
    return *this;
  }

  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  std::byte* data() { return bytes_ ? bytes_.get() : vector_.data(); }
  const std::byte* data() const { return bytes_ ? bytes_.get() : vector_.data(); }
  std::byte* begin() { return data(); }
  std::byte* end() { return data() + size_; }
  const std::byte* begin() const { return data(); }
  const std::byte* end() const { return data() + size_; }

 private:
  static constexpr std::size_t kPage = 4096;
  struct Free {
    void operator()(std::byte* bytes) const { ::operator delete (bytes, std::align_val_t{kPage}); }
  };

  void swap(ByteArray& other) noexcept {
    std::swap(bytes_, other.bytes_);
    std::swap(vector_, other.vector_);
    std::swap(size_, other.size_);
  }

  std::unique_ptr<std::byte[], Free> bytes_;  ///< or else vector_
  std::vector<std::byte> vector_;
  std::size_t size_ = 0;
};

inline ByteArray copied(std::span<const std::byte> bytes) {
  ByteArray copy(bytes.size());
  if (!bytes.empty()) std::memcpy(copy.data(), bytes.data(), bytes.size());
  return copy;
}

}  // namespace adze
