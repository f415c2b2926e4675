// Sequential, bounded reads of a GGUF header: nothing is allocated before the file is known to hold it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "base/file.h"
#include "checkpoint/gguf_value.h"

namespace adze {

inline constexpr std::uint64_t kMaxGgufStringBytes = std::uint64_t{64} << 20;
inline constexpr std::uint64_t kMaxGgufArrayCount = std::uint64_t{1} << 30;  // ggml's own limit

/// Where a header must have ended, whatever the file's size: a sparse file costs nothing, what is read of it does. The
/// largest vocabularies need some 20 MB.
inline constexpr std::uint64_t kMaxGgufHeaderBytes = std::uint64_t{1} << 30;

class GgufCursor {
 public:
  explicit GgufCursor(const InputFile& file) : file_(file), end_(std::min(file.size(), kMaxGgufHeaderBytes)) {}

  std::uint64_t position() const { return position_; }
  std::uint64_t remaining() const { return end_ - position_; }

  /// Throws bad_data when fewer bytes remain.
  void read(std::span<std::byte> out);
  template <typename T>
  requires std::is_arithmetic_v<T> T number() {
    T value{};
    read(std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }
  /// u64 length and bytes. Throws bad_data above `limit`.
  std::string text(std::uint64_t limit = kMaxGgufStringBytes);
  /// A type id and its payload. Throws bad_data: unknown type, nested array, BOOL other than 0 and 1, counts too large.
  GgufValue value();

 private:
  void fill();

  const InputFile& file_;
  std::uint64_t end_;
  std::uint64_t position_ = 0;
  std::uint64_t buffer_start_ = 0;
  std::vector<std::byte> buffer_;  ///< the file's bytes from buffer_start_
};

}  // namespace adze
