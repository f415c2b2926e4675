#include "linalg/second_moment.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/parallel.h"
#include "linalg/gemm.h"
#include "linalg/widening_sums.h"

namespace adze {
namespace {

struct Tile {
  std::size_t row;
  std::size_t col;
  Shape shape;
};

/// A function of n only. Small enough to keep every core busy, large enough for SGEMM; flat, because what a tile on the
/// diagonal computes below it is wasted, and that grows with the height.
Shape tile_shape(std::size_t n) { return n <= 1024 ? Shape{128, 128} : Shape{256, 512}; }

/// The tiles of each strip of rows, from the diagonal on.
std::vector<Tile> upper_tiles(std::size_t n) {
  const auto [height, width] = tile_shape(n);
  std::vector<Tile> tiles;
  for (std::size_t row = 0; row < n; row += height)
    for (std::size_t col = row; col < n; col += width)
      tiles.push_back({row, col, {std::min(height, n - row), std::min(width, n - col)}});
  return tiles;
}

/// Copies what lies above the diagonal in a tile to the places below it, in squares that fit the first cache.
void mirror(ViewD h, const Tile& tile) {
  constexpr std::size_t kSquare = 32;
  for (std::size_t i0 = 0; i0 < tile.shape.rows; i0 += kSquare)
    for (std::size_t j0 = 0; j0 < tile.shape.cols; j0 += kSquare)
      for (std::size_t j = j0; j < std::min(j0 + kSquare, tile.shape.cols); ++j) {
        const std::span<double> below = h.row(tile.col + j);
        const std::size_t last = std::min(i0 + kSquare, tile.shape.rows);
        for (std::size_t i = tile.row + i0; i < tile.row + last && i < tile.col + j; ++i) below[i] = h(i, tile.col + j);
      }
}

/// Adds what one tile of H gets of all slices.
void add_tile(ConstViewF x, std::size_t slice_tokens, const Tile& tile, ViewD h) {
  MatrixF product(tile.shape);
  for (std::size_t first = 0; first < x.rows(); first += slice_tokens) {
    const ConstViewF slice = x.row_range(first, std::min(slice_tokens, x.rows() - first));
    multiply_tn(slice.col_range(tile.row, tile.shape.rows), slice.col_range(tile.col, tile.shape.cols), product);
    for (std::size_t i = 0; i < tile.shape.rows; ++i) {
      const std::size_t skip = tile.row + i > tile.col ? tile.row + i - tile.col : 0;
      if (skip < tile.shape.cols)
        add_widened(product.row(i).subspan(skip), h.row(tile.row + i).subspan(tile.col + skip, tile.shape.cols - skip));
    }
  }
  mirror(h, tile);
}

}  // namespace

void add_second_moment(ConstViewF x, std::size_t slice_tokens, ViewD h) {
  const MomentSum sum{x, h};
  add_second_moments({&sum, 1}, slice_tokens);
}

void add_second_moments(std::span<const MomentSum> sums, std::size_t slice_tokens) {
  assert(slice_tokens > 0);
  std::vector<std::pair<const MomentSum*, Tile>> tiles;
  for (const MomentSum& sum : sums) {
    assert(sum.h.rows() == sum.h.cols() && sum.h.rows() == sum.x.cols());
    for (const Tile& tile : upper_tiles(sum.x.cols())) tiles.emplace_back(&sum, tile);
  }
  parallel_for(tiles.size(), [&](std::size_t t) {
    const auto& [sum, tile] = tiles[t];
    add_tile(sum->x, slice_tokens, tile, sum->h);
  });
}

}  // namespace adze
