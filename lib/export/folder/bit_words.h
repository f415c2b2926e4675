// Bit streams of codes in 32-bit little-endian words, value i in bits [i b, i b + b) of the stream, as packed formats
// have them. Internal to export/folder.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace adze {

constexpr std::size_t words_of(std::size_t count, int bits) {
  return (count * static_cast<std::size_t>(bits) + 31) / 32;
}

/// code(i) of `count` values, as words; put(w, word).
template <typename Code, typename Put>
void stream_words(std::size_t count, int bits, Code&& code, Put&& put) {
  std::uint64_t pending = 0;
  int filled = 0;
  std::size_t word = 0;
  for (std::size_t i = 0; i < count; ++i) {
    pending |= static_cast<std::uint64_t>(code(i)) << filled;
    filled += bits;
    while (filled >= 32) {
      put(word++, static_cast<std::uint32_t>(pending));
      pending >>= 32;
      filled -= 32;
    }
  }
  if (filled > 0) put(word, static_cast<std::uint32_t>(pending));
}

/// A matrix of words, row-major, as the bytes of a tensor.
class WordMatrix {
 public:
  WordMatrix(std::size_t rows, std::size_t cols) : cols_(cols), bytes_(rows * cols * 4) {}
  void set(std::size_t row, std::size_t col, std::uint32_t word) {
    for (std::size_t b = 0; b < 4; ++b) bytes_[(row * cols_ + col) * 4 + b] = static_cast<std::byte>(word >> (8 * b));
  }
  std::vector<std::byte> take() { return std::move(bytes_); }

 private:
  std::size_t cols_;
  std::vector<std::byte> bytes_;
};

/// Elements of `width` bytes, [rows x cols], the other way round.
inline std::vector<std::byte> transposed_elements(const std::vector<std::byte>& in, std::size_t rows, std::size_t cols,
                                                  std::size_t width) {
  std::vector<std::byte> out(in.size());
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t c = 0; c < cols; ++c)
      for (std::size_t b = 0; b < width; ++b) out[(c * rows + r) * width + b] = in[(r * cols + c) * width + b];
  return out;
}

}  // namespace adze
