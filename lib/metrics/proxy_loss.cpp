#include "metrics/proxy_loss.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "base/checked.h"
#include "base/parallel.h"
#include "linalg/gemm.h"

namespace adze {
namespace {

constexpr std::size_t kTileRows = 512;  // fixed, so that every product has a shape of the problem
constexpr std::size_t kBlockCols = 256;

MatrixD difference_tile(ConstViewF weights, const ConstViewF* approximation, std::size_t first) {
  const std::size_t rows = std::min(kTileRows, weights.rows() - first);
  MatrixD difference(rows, weights.cols());
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t c = 0; c < weights.cols(); ++c)
      difference(r, c) = static_cast<double>(weights(first + r, c)) -
                         (approximation ? static_cast<double>((*approximation)(first + r, c)) : 0.0);
  return difference;
}

/// sum over blocks j of columns of D_j . (2 D_<j H_<j,j + D_j H_jj): H is symmetric, so half of it will do.
double tile_form(const MatrixD& d, ConstViewD h) {
  double sum = 0;
  MatrixD panel(d.cols(), std::min(kBlockCols, d.cols()));
  MatrixD product(d.rows(), panel.cols());
  for (std::size_t first = 0; first < d.cols(); first += kBlockCols) {
    const std::size_t cols = std::min(kBlockCols, d.cols() - first);
    for (std::size_t r = 0; r < first + cols; ++r)
      for (std::size_t c = 0; c < cols; ++c)
        panel(r, c) = static_cast<double>(h(r, first + c)) * (r < first ? 2.0 : 1.0);
    const ConstViewD before = d.view().col_range(0, first + cols);
    multiply_nn(before, ConstViewD(panel.view().row_range(0, first + cols).col_range(0, cols)),
                product.view().col_range(0, cols));
    for (std::size_t r = 0; r < d.rows(); ++r)
      for (std::size_t c = 0; c < cols; ++c) sum += static_cast<double>(d(r, first + c)) * product(r, c);
  }
  return sum;
}

/// tr(D H D^T) with D = weights - approximation, or D = weights when there is no approximation.
double quadratic_form(ConstViewF weights, const ConstViewF* approximation, ConstViewD h) {
  const std::size_t tiles = divide_up(weights.rows(), kTileRows);
  std::vector<double> tile_sums(tiles);
  parallel_for(tiles, [&](std::size_t t) {
    tile_sums[t] = tile_form(difference_tile(weights, approximation, t * kTileRows), h);
  });
  return std::accumulate(tile_sums.begin(), tile_sums.end(), 0.0);
}

}  // namespace

// Products in double: a good approximation's errors cancel along the strong directions of H, so its loss is a small
// difference of large terms.
double proxy_loss(ConstViewF weights, ConstViewF approximation, ConstViewD h) {
  assert(weights.shape() == approximation.shape() && h.rows() == weights.cols());
  return quadratic_form(weights, &approximation, h);
}

double output_energy(ConstViewF weights, ConstViewD h) { return quadratic_form(weights, nullptr, h); }

}  // namespace adze
