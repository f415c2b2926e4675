#include "linalg/cross_moment.h"

#include <algorithm>

#include "base/checked.h"
#include "base/parallel.h"
#include "linalg/gemm.h"

namespace adze {
namespace {

constexpr std::size_t kTile = 256;  // fixed, so that every product has a shape of the problem

}  // namespace

void add_cross_moment(ConstViewF a, ConstViewF b, std::size_t slice_tokens, ViewD c) {
  assert(a.rows() == b.rows() && c.rows() == a.cols() && c.cols() == b.cols() && slice_tokens > 0);
  const std::size_t across = divide_up(c.cols(), kTile);
  parallel_for(divide_up(c.rows(), kTile) * across, [&](std::size_t t) {
    const std::size_t row = t / across * kTile;
    const std::size_t col = t % across * kTile;
    MatrixF product(std::min(kTile, c.rows() - row), std::min(kTile, c.cols() - col));
    for (std::size_t first = 0; first < a.rows(); first += slice_tokens) {
      const std::size_t count = std::min(slice_tokens, a.rows() - first);
      multiply_tn(a.row_range(first, count).col_range(row, product.rows()),
                  b.row_range(first, count).col_range(col, product.cols()), product);
      for (std::size_t i = 0; i < product.rows(); ++i)
        for (std::size_t j = 0; j < product.cols(); ++j) c(row + i, col + j) += static_cast<double>(product(i, j));
    }
  });
}

}  // namespace adze
