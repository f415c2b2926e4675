#include "metrics/proxy_loss.h"

#include <algorithm>
#include <numeric>
#include <span>
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

/// Of every row the sum over blocks j of columns of D_j . (2 D_<j H_<j,j + D_j H_jj): H is symmetric, so half of it
/// will do.
void tile_form(const MatrixD& d, ConstViewD h, std::span<double> row_sums) {
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
      for (std::size_t c = 0; c < cols; ++c) row_sums[r] += static_cast<double>(d(r, first + c)) * product(r, c);
  }
}

/// d H d^T of every row d of D = weights - approximation, or of weights when there is no approximation.
std::vector<double> quadratic_forms(ConstViewF weights, const ConstViewF* approximation, ConstViewD h) {
  std::vector<double> sums(weights.rows());
  parallel_for(divide_up(weights.rows(), kTileRows), [&](std::size_t t) {
    const MatrixD tile = difference_tile(weights, approximation, t * kTileRows);
    tile_form(tile, h, std::span(sums).subspan(t * kTileRows, tile.rows()));
  });
  return sums;
}

double sum_of(const std::vector<double>& values) { return std::accumulate(values.begin(), values.end(), 0.0); }

}  // namespace

// Products in double: a good approximation's errors cancel along the strong directions of H, so its loss is a small
// difference of large terms.
double proxy_loss(ConstViewF weights, ConstViewF approximation, ConstViewD h) {
  assert(weights.shape() == approximation.shape() && h.rows() == weights.cols());
  return sum_of(quadratic_forms(weights, &approximation, h));
}

std::vector<double> row_losses(ConstViewF weights, ConstViewF approximation, ConstViewD h) {
  assert(weights.shape() == approximation.shape());
  if (h.rows() > 0) return quadratic_forms(weights, &approximation, h);
  std::vector<double> losses(weights.rows());
  for (std::size_t r = 0; r < weights.rows(); ++r)
    for (std::size_t c = 0; c < weights.cols(); ++c) {
      const double error = static_cast<double>(weights(r, c)) - static_cast<double>(approximation(r, c));
      losses[r] += error * error;
    }
  return losses;
}

double output_energy(ConstViewF weights, ConstViewD h) { return sum_of(quadratic_forms(weights, nullptr, h)); }

MatrixD with_damping(ConstViewD h, double damp) {
  MatrixD damped(h.shape());
  double sum = 0;
  for (std::size_t i = 0; i < h.rows(); ++i) {
    std::ranges::copy(h.row(i), damped.row(i).begin());
    sum += h(i, i);
  }
  const double add = sum > 0 ? damp * sum / static_cast<double>(h.rows()) : 1.0;
  for (std::size_t i = 0; i < h.rows(); ++i) damped(i, i) += add;
  return damped;
}

}  // namespace adze
