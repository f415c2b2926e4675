// Bit streams of codes in 32-bit little-endian words, value i in bits [i b, i b + b) of the stream, as packed formats
// have them. Internal to export/folder.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "base/parallel.h"

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

/// Rows of streams [rows x row_bytes] with each row padded to whole words.
inline std::vector<std::byte> padded_rows(std::vector<std::byte> streams, std::size_t rows, std::size_t words) {
  const std::size_t row_bytes = streams.size() / rows;
  if (row_bytes == 4 * words) return streams;
  std::vector<std::byte> padded(rows * words * 4);
  for (std::size_t r = 0; r < rows; ++r)
    std::memcpy(padded.data() + r * words * 4, streams.data() + r * row_bytes, row_bytes);
  return padded;
}

/// Element is an unsigned number of its width.
template <typename Element>
std::vector<std::byte> transposed_fixed(const std::vector<std::byte>& in, std::size_t rows, std::size_t cols) {
  // Rows of either side may lie so that they push each other out of the cache: a square of cache lines is copied first.
  constexpr std::size_t kWidth = sizeof(Element), kTile = 64 / kWidth;
  std::vector<std::byte> out(in.size());
  parallel_for((rows + kTile - 1) / kTile, [&](std::size_t tile) {
    const std::size_t first = tile * kTile, count = std::min(kTile, rows - first);
    std::array<std::array<Element, kTile>, kTile> lines{};
    std::array<Element, kTile> line;
    // Whole squares have sizes that the compiler knows.
    const auto turn = [&](std::size_t left, auto height, auto width) {
      for (std::size_t r = 0; r < height; ++r)
        std::memcpy(lines[r].data(), in.data() + ((first + r) * cols + left) * kWidth, width * kWidth);
      for (std::size_t c = 0; c < width; ++c) {
        for (std::size_t r = 0; r < kTile; ++r) line[r] = lines[r][c];
        std::memcpy(out.data() + ((left + c) * rows + first) * kWidth, line.data(), height * kWidth);
      }
    };
    for (std::size_t left = 0; left < cols; left += kTile) {
      const std::size_t width = std::min(kTile, cols - left);
      if (count == kTile && width == kTile)
        turn(left, std::integral_constant<std::size_t, kTile>(), std::integral_constant<std::size_t, kTile>());
      else
        turn(left, count, width);
    }
  });
  return out;
}

/// Elements of 2 or 4 bytes, [rows x cols], the other way round.
inline std::vector<std::byte> transposed_elements(const std::vector<std::byte>& in, std::size_t rows, std::size_t cols,
                                                  std::size_t width) {
  return width == 2 ? transposed_fixed<std::uint16_t>(in, rows, cols) : transposed_fixed<std::uint32_t>(in, rows, cols);
}

}  // namespace adze
