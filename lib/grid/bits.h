// Packing of small unsigned numbers, least significant bit first, without gaps; the last byte is padded with zeros.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace adze {

constexpr std::uint64_t packed_bytes(std::uint64_t count, int bits) {
  return (count * static_cast<std::uint64_t>(bits) + 7) / 8;
}

/// Writes values that are appended one by one. `bits` is 1 to 8, out must hold packed_bytes(count, bits).
class BitWriter {
 public:
  BitWriter(std::span<std::byte> out, int bits) : out_(out), bits_(bits) {
    for (std::byte& b : out_) b = std::byte{0};
  }
  void put(unsigned value) {
    const std::size_t byte = position_ / 8;
    const auto shifted = static_cast<unsigned>(value << (position_ % 8));
    out_[byte] |= static_cast<std::byte>(shifted);
    if (position_ % 8 + static_cast<std::size_t>(bits_) > 8) out_[byte + 1] |= static_cast<std::byte>(shifted >> 8);
    position_ += static_cast<std::size_t>(bits_);
  }

 private:
  std::span<std::byte> out_;
  int bits_;
  std::size_t position_ = 0;
};

class BitReader {
 public:
  BitReader(std::span<const std::byte> in, int bits) : in_(in), bits_(bits) {}
  unsigned get() {
    const std::size_t byte = position_ / 8;
    unsigned window = std::to_integer<unsigned>(in_[byte]);
    if (byte + 1 < in_.size()) window |= std::to_integer<unsigned>(in_[byte + 1]) << 8;
    const unsigned value = (window >> (position_ % 8)) & ((1u << bits_) - 1u);
    position_ += static_cast<std::size_t>(bits_);
    return value;
  }

 private:
  std::span<const std::byte> in_;
  int bits_;
  std::size_t position_ = 0;
};

}  // namespace adze
