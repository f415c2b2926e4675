#include "linalg/second_moment.h"

#include <algorithm>
#include <vector>

#include "base/parallel.h"
#include "linalg/gemm.h"

namespace adze {
namespace {

struct Tile {
  std::size_t row;
  std::size_t col;
};

/// Tile width: a function of n only. Small enough to keep every core busy, large enough for SGEMM.
std::size_t tile_width(std::size_t n) { return n <= 1024 ? 128 : 512; }

std::vector<Tile> upper_tiles(std::size_t n, std::size_t width) {
  std::vector<Tile> tiles;
  for (std::size_t row = 0; row < n; row += width)
    for (std::size_t col = row; col < n; col += width) tiles.push_back({row, col});
  return tiles;
}

}  // namespace

void add_second_moment(ConstViewF x, std::size_t slice_tokens, ViewD h) {
  assert(h.rows() == h.cols() && h.rows() == x.cols() && slice_tokens > 0);
  const std::size_t n = x.cols();
  const std::size_t width = tile_width(n);
  const std::vector<Tile> tiles = upper_tiles(n, width);
  parallel_for(tiles.size(), [&](std::size_t t) {
    const auto [row, col] = tiles[t];
    const std::size_t rows = std::min(width, n - row);
    const std::size_t cols = std::min(width, n - col);
    MatrixF product(rows, cols);
    for (std::size_t first = 0; first < x.rows(); first += slice_tokens) {
      const ConstViewF slice = x.row_range(first, std::min(slice_tokens, x.rows() - first));
      multiply_tn(slice.col_range(row, rows), slice.col_range(col, cols), product);
      for (std::size_t i = 0; i < rows; ++i) {
        const std::size_t skip = row == col ? i : 0;
        for (std::size_t j = skip; j < cols; ++j) h(row + i, col + j) += static_cast<double>(product(i, j));
      }
    }
    for (std::size_t i = 0; i < rows; ++i)
      for (std::size_t j = row == col ? i + 1 : 0; j < cols; ++j) h(col + j, row + i) = h(row + i, col + j);
  });
}

}  // namespace adze
