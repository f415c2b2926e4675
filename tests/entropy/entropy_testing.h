// A plain reader of coded symbols that shares no code with the library: bit by bit, one symbol at a time, tables
// searched from their start. It trusts its input.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <stdexcept>
#include <vector>

namespace adze::entropy_testing {

class PlainReader {
 public:
  explicit PlainReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  /// context_of: of symbol i.
  std::vector<std::uint8_t> decode(const std::function<std::size_t(std::size_t)>& context_of) {
    if (number(4) != 0x53455A41) throw std::runtime_error("magic");
    alphabet_ = number(2);
    const std::uint64_t contexts = number(2), tables = number(2);
    number(2);
    const std::uint64_t symbols = number(8);
    if (tables > 0)
      for (std::uint64_t c = 0; c < contexts; ++c) table_of_.push_back(number(1));
    for (std::uint64_t t = 0; t < tables; ++t) read_table();
    const std::uint64_t chunks = (symbols + 65535) / 65536;
    std::vector<std::uint64_t> lengths;
    for (std::uint64_t c = 0; c < chunks; ++c) {
      lengths.push_back(number(4));
      number(4);
    }
    number(4);
    std::vector<std::uint8_t> out;
    for (const std::uint64_t length : lengths) {
      const std::size_t count = std::min<std::uint64_t>(65536, symbols - out.size());
      const auto own = bytes_.subspan(at_, length & 0x7FFFFFFF);
      at_ += own.size();
      if (length >> 31 != 0) {
        for (std::size_t i = 0; i < count; ++i) out.push_back(packed(own, i));
      } else {
        decode_chunk(own, count, context_of, out);
      }
    }
    if (at_ != bytes_.size()) throw std::runtime_error("length");
    return out;
  }

  std::size_t tables() const { return frequencies_.size(); }

 private:
  std::uint64_t number(std::size_t size) {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < size; ++i) value |= std::to_integer<std::uint64_t>(bytes_[at_ + i]) << (8 * i);
    at_ += size;
    return value;
  }
  static std::uint64_t bits_at(std::span<const std::byte> bytes, std::size_t first, int count) {
    std::uint64_t value = 0;
    for (int k = 0; k < count; ++k) {
      const std::size_t bit = first + static_cast<std::size_t>(k);
      value |= ((std::to_integer<std::uint64_t>(bytes[bit / 8]) >> (bit % 8)) & 1) << k;
    }
    return value;
  }
  int symbol_width() const {
    int width = 0;
    while ((std::uint64_t{1} << width) < alphabet_) ++width;
    return width;
  }
  int precision() const { return alphabet_ <= 32 ? 11 : 12; }

  std::uint8_t packed(std::span<const std::byte> own, std::size_t i) const {
    return static_cast<std::uint8_t>(bits_at(own, i * static_cast<std::size_t>(symbol_width()), symbol_width()));
  }

  void read_table() {
    std::vector<std::uint64_t> table(alphabet_);
    std::size_t present = 0;
    for (std::size_t s = 0; s < alphabet_; ++s) present += table[s] = bits_at(bytes_.subspan(at_), s, 1);
    at_ += (alphabet_ + 7) / 8;
    std::size_t bit = 0;
    for (std::uint64_t& frequency : table) {
      if (frequency == 0) continue;
      frequency = bits_at(bytes_.subspan(at_), bit, precision()) + 1;
      bit += static_cast<std::size_t>(precision());
    }
    at_ += (bit + 7) / 8;
    frequencies_.push_back(table);
  }

  void decode_chunk(std::span<const std::byte> own, std::size_t count,
                    const std::function<std::size_t(std::size_t)>& context_of, std::vector<std::uint8_t>& out) const {
    std::array<std::uint64_t, 8> states{};
    for (std::size_t s = 0; s < 8; ++s) states[s] = bits_at(own, 32 * s, 32);
    std::size_t at = 32;
    for (std::size_t i = 0; i < count; ++i) {
      std::uint64_t& x = states[i % 8];
      const auto& table = frequencies_.at(table_of_.at(context_of(out.size())));
      const std::uint64_t total = std::uint64_t{1} << precision(), slot = x % total;
      std::uint64_t start = 0;
      std::size_t symbol = 0;
      while (start + table[symbol] <= slot) start += table[symbol++];
      x = table[symbol] * (x / total) + slot - start;
      if (x < 65536) {
        x = x << 16 | bits_at(own, 8 * at, 16);
        at += 2;
      }
      out.push_back(static_cast<std::uint8_t>(symbol));
    }
    if (at != own.size()) throw std::runtime_error("chunk");
  }

  std::span<const std::byte> bytes_;
  std::size_t at_ = 0;
  std::uint64_t alphabet_ = 0;
  std::vector<std::uint64_t> table_of_;
  std::vector<std::vector<std::uint64_t>> frequencies_;
};

}  // namespace adze::entropy_testing
