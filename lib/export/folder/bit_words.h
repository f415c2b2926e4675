// Bit streams of codes in 32-bit little-endian words, value i in bits [i b, i b + b) of the stream, as packed formats
// have them. Internal to export/folder.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>
#include <vector>

#include "base/byte_array.h"
#include "base/parallel.h"
#include "grid/integer/integer_matrix.h"

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

/// Streams of rows with each row padded to whole words.
inline ByteArray padded_rows(CodeRows streams, std::size_t words) {
  const std::size_t row_bytes = words * sizeof(std::uint32_t), padding = row_bytes - streams.cols();
  ByteArray padded(streams.rows() * row_bytes);
  constexpr std::size_t kTileRows = 64;
  parallel_for((streams.rows() + kTileRows - 1) / kTileRows, [&](std::size_t tile) {
    for (std::size_t r = tile * kTileRows; r < std::min(streams.rows(), (tile + 1) * kTileRows); ++r) {
      std::byte* const to = padded.data() + r * row_bytes;
      std::memcpy(to, streams.row(r).data(), streams.cols());
      std::fill_n(to + streams.cols(), padding, std::byte{0});
    }
  });
  return padded;
}

/// Two elements of 2 or 4 bytes as one number, the first in its low half.
template <typename Element>
using Pair = std::conditional_t<sizeof(Element) == 2, std::uint32_t, std::uint64_t>;

/// Rows of elements, unsigned numbers of their width, the other way round: columns as rows.
template <typename Element>
ByteArray transposed_fixed(CodeRows in) {
  // Rows of either side may lie so that they push each other out of the cache: a square of cache lines is copied first,
  // and turned two rows and two columns at a time. Several squares below each other fill lines that are neighbours.
  constexpr std::size_t kWidth = sizeof(Element), kTile = 64 / kWidth, kTaskRows = 4 * kTile;
  constexpr unsigned kBits = 8 * kWidth;
  using Line = std::array<Pair<Element>, kTile / 2>;
  constexpr Pair<Element> kLow = static_cast<Element>(~Element{0});
  const std::size_t rows = in.rows(), cols = in.cols() / kWidth;
  ByteArray out(rows * cols * kWidth);
  parallel_for((rows + kTaskRows - 1) / kTaskRows, [&](std::size_t task) {
    std::array<Line, kTile> lines{}, turned;
    // Whole squares have sizes that the compiler knows.
    const auto turn = [&](std::size_t top, std::size_t left, auto height, auto width) {
      for (std::size_t r = 0; r < height; ++r)
        std::memcpy(lines[r].data(), in.row(top + r).data() + left * kWidth, width * kWidth);
      for (std::size_t r = 0; r < kTile; r += 2)
        for (std::size_t pair = 0; pair < kTile / 2; ++pair) {
          const Pair<Element> upper = lines[r][pair], lower = lines[r + 1][pair];
          turned[2 * pair][r / 2] = static_cast<Pair<Element>>((upper & kLow) | (lower << (kBits)));
          turned[2 * pair + 1][r / 2] = static_cast<Pair<Element>>((upper >> (kBits)) | (lower & ~kLow));
        }
      for (std::size_t c = 0; c < width; ++c)
        std::memcpy(out.data() + ((left + c) * rows + top) * kWidth, turned[c].data(), height * kWidth);
    };
    // The processor does not guess lines that are strides apart, so it is told of them.
    const auto fetch_next = [&](std::size_t top, std::size_t left, std::size_t height) {
      if (left + 2 * kTile < cols)
        for (std::size_t r = 0; r < height; ++r)
          __builtin_prefetch(in.row(top + r).data() + (left + 2 * kTile) * kWidth);
      for (std::size_t c = left + kTile; c < std::min(left + 2 * kTile, cols); ++c)
        __builtin_prefetch(out.data() + (c * rows + top) * kWidth, 1);
    };
    for (std::size_t left = 0; left < cols; left += kTile) {
      const std::size_t width = std::min(kTile, cols - left);
      for (std::size_t top = task * kTaskRows; top < std::min(rows, (task + 1) * kTaskRows); top += kTile) {
        const std::size_t height = std::min(kTile, rows - top);
        fetch_next(top, left, height);
        if (height == kTile && width == kTile)
          turn(top, left, std::integral_constant<std::size_t, kTile>(), std::integral_constant<std::size_t, kTile>());
        else
          turn(top, left, height, width);
      }
    }
  });
  return out;
}

/// Elements of 2 or 4 bytes the other way round.
inline ByteArray transposed_elements(CodeRows in, std::size_t width) {
  return width == 2 ? transposed_fixed<std::uint16_t>(in) : transposed_fixed<std::uint32_t>(in);
}

/// The same of elements without gaps, [rows x cols].
inline ByteArray transposed_elements(std::span<const std::byte> in, std::size_t rows, std::size_t cols,
                                     std::size_t width) {
  return transposed_elements({in.data(), {rows, cols * width}}, width);
}

}  // namespace adze
