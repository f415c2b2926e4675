// Packing of small unsigned numbers, least significant bit first, without gaps; the last byte is padded with zeros.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

namespace adze {

constexpr std::uint64_t packed_bytes(std::uint64_t count, int bits) {
  return (count * static_cast<std::uint64_t>(bits) + 7) / 8;
}

/// Writes values that are appended one by one, the lowest `bits` of each. `bits` is 1 to 32, out must hold
/// packed_bytes(count, bits).
class BitWriter {
 public:
  BitWriter(std::span<std::byte> out, int bits) : out_(out), bits_(static_cast<std::size_t>(bits)) {
    for (std::byte& b : out_) b = std::byte{0};
  }
  void put(unsigned value) {
    std::uint64_t shifted = (value & ((std::uint64_t{1} << bits_) - 1)) << (position_ % 8);
    for (std::size_t byte = position_ / 8; shifted != 0; ++byte, shifted >>= 8)
      out_[byte] |= static_cast<std::byte>(shifted & 0xFF);
    position_ += bits_;
  }

 private:
  std::span<std::byte> out_;
  std::size_t bits_;
  std::size_t position_ = 0;
};

/// Values from the first on, as many as `values` takes; `bits` is 1 to 8. Faster than one by one.
inline void unpack_values(std::span<const std::byte> in, int bits, std::span<std::uint8_t> values) {
  const auto mask = (1U << bits) - 1;
  unsigned window = 0;
  int filled = 0;
  std::size_t byte = 0;
  for (std::uint8_t& value : values) {
    if (filled < bits) {
      window |= std::to_integer<unsigned>(in[byte++]) << filled;
      filled += 8;
    }
    value = static_cast<std::uint8_t>(window & mask);
    window >>= bits;
    filled -= bits;
  }
}

class BitReader {
 public:
  /// Begins at value number `first`.
  BitReader(std::span<const std::byte> in, int bits, std::size_t first = 0)
      : in_(in), bits_(static_cast<std::size_t>(bits)), position_(first * bits_) {}
  unsigned get() {
    const std::size_t first = position_ / 8;
    const std::size_t last = std::min((position_ + bits_ + 7) / 8, in_.size());
    std::uint64_t window = 0;
    for (std::size_t byte = first; byte < last; ++byte)
      window |= std::to_integer<std::uint64_t>(in_[byte]) << (8 * (byte - first));
    const std::uint64_t value = (window >> (position_ % 8)) & ((std::uint64_t{1} << bits_) - 1);
    position_ += bits_;
    return static_cast<unsigned>(value);
  }

 private:
  std::span<const std::byte> in_;
  std::size_t bits_;
  std::size_t position_ = 0;
};

}  // namespace adze
