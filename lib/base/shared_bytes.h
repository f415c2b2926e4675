// Bytes that somebody else may hold, too: what is written as it was read needs no copy.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <utility>

#include "base/byte_array.h"

namespace adze {

class SharedBytes {
 public:
  SharedBytes(ByteArray bytes) {
    auto array = std::make_shared<const ByteArray>(std::move(bytes));
    bytes_ = *array;
    owner_ = std::move(array);
  }
  /// Bytes that stay as they are as long as somebody holds their owner.
  SharedBytes(std::span<const std::byte> bytes, std::shared_ptr<const void> owner)
      : bytes_(bytes), owner_(std::move(owner)) {}

  std::size_t size() const { return bytes_.size(); }
  operator std::span<const std::byte>() const { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
  std::shared_ptr<const void> owner_;
};

}  // namespace adze
