// Bit streams of codes in 32-bit little-endian words, value i in bits [i b, i b + b) of the stream, as packed formats
// have them. Internal to export/folder.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "base/byte_array.h"
#include "base/parallel.h"
#include "grid/integer/integer_matrix.h"
#include "linalg/transposed_elements.h"

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

/// Elements of 2 or 4 bytes the other way round. A task is the rows of some cache lines of columns, which are
/// neighbours.
inline ByteArray transposed_elements(CodeRows in, std::size_t width) {
  const std::size_t task_rows = 256 / width, rows = in.rows();
  ByteArray out(rows * in.cols());
  const MatrixView<std::byte> columns(out.data(), {in.cols() / width, rows * width});
  parallel_for((rows + task_rows - 1) / task_rows, [&](std::size_t task) {
    const std::size_t first = task * task_rows, count = std::min(task_rows, rows - first);
    transpose_elements(in.row_range(first, count), columns.col_range(first * width, count * width), width);
  });
  return out;
}

/// The same of elements without gaps, [rows x cols].
inline ByteArray transposed_elements(std::span<const std::byte> in, std::size_t rows, std::size_t cols,
                                     std::size_t width) {
  return transposed_elements({in.data(), {rows, cols * width}}, width);
}

}  // namespace adze
