#include "metrics/proxy_loss.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "base/checked.h"
#include "base/parallel.h"
#include "linalg/factor.h"

namespace adze {
namespace {

constexpr std::size_t kTileRows = 64;  // fixed, so that every product has a shape of the problem

/// tr(D H D^T) with D = weights - approximation, or D = weights when there is no approximation.
double quadratic_form(ConstViewF weights, const ConstViewF* approximation, ConstViewD h) {
  const std::size_t tiles = divide_up(weights.rows(), kTileRows);
  std::vector<double> tile_sums(tiles);
  parallel_for(tiles, [&](std::size_t t) {
    const std::size_t first = t * kTileRows;
    const std::size_t rows = std::min(kTileRows, weights.rows() - first);
    MatrixD difference(kTileRows, weights.cols());
    for (std::size_t r = 0; r < rows; ++r)
      for (std::size_t c = 0; c < weights.cols(); ++c)
        difference(r, c) = static_cast<double>(weights(first + r, c)) -
                           (approximation ? static_cast<double>((*approximation)(first + r, c)) : 0.0);
    MatrixD product(kTileRows, weights.cols());
    multiply_nn(difference, h, product);
    tile_sums[t] = std::inner_product(difference.values().begin(), difference.values().end(),
                                      product.values().begin(), 0.0);
  });
  return std::accumulate(tile_sums.begin(), tile_sums.end(), 0.0);
}

}  // namespace

double proxy_loss(ConstViewF weights, ConstViewF approximation, ConstViewD h) {
  assert(weights.shape() == approximation.shape() && h.rows() == weights.cols());
  return quadratic_form(weights, &approximation, h);
}

double output_energy(ConstViewF weights, ConstViewD h) { return quadratic_form(weights, nullptr, h); }

}  // namespace adze
