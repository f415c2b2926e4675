#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/parallel.h"
#include "linalg/eigen.h"
#include "linalg/gemm.h"
#include "solve/compot/compot.h"

namespace adze {
namespace {

constexpr double kNoise = 1e-14;  // of the largest eigenvalue: squares in double resolve no less

/// Eigenvectors of a Gram matrix as rows; the cheaper of two ways where few are wanted.
SymmetricEigen leading(MatrixD gram_matrix, std::size_t count) {
  return 3 * count < gram_matrix.rows() ? leading_eigen(std::move(gram_matrix), count)
                                        : symmetric_eigen(std::move(gram_matrix));
}

/// Zeroes all but the `kept` entries of largest size, the first of equals.
void keep_largest(std::span<double> values, std::uint64_t kept) {
  if (kept >= values.size()) return;
  std::vector<double> sizes(values.size());
  std::ranges::transform(values, sizes.begin(), [](double v) { return std::fabs(v); });
  double threshold = std::numeric_limits<double>::infinity();
  if (kept > 0) {
    const auto last = sizes.begin() + static_cast<std::ptrdiff_t>(kept - 1);
    std::nth_element(sizes.begin(), last, sizes.end(), std::greater<>());
    threshold = *last;
  }
  auto equals =
      static_cast<std::uint64_t>(std::ranges::count_if(values, [&](double v) { return std::fabs(v) > threshold; }));
  equals = kept - equals;
  for (double& value : values) {
    const double size = std::fabs(value);
    if (size > threshold) continue;
    if (size == threshold && equals > 0)
      --equals;
    else
      value = 0;
  }
}

void code(MatrixD& coefficients, std::uint64_t kept, bool by_row) {
  if (!by_row) return keep_largest(coefficients.values(), kept);
  const std::size_t rows = coefficients.rows();
  parallel_for(rows, [&](std::size_t r) {  // what does not divide goes to the first rows
    keep_largest(coefficients.row(r), kept / rows + (r < kept % rows ? 1 : 0));
  });
}

double energy(const MatrixD& values) {
  return std::transform_reduce(values.values().begin(), values.values().end(), 0.0, std::plus<>(),
                               [](double v) { return v * v; });
}

}  // namespace

MatrixD first_dictionary(const MatrixD& whitened, std::size_t atoms) {
  const std::size_t n = whitened.cols();
  const bool by_inputs = n <= whitened.rows();
  const SymmetricEigen eigen = leading(by_inputs ? product_tn(whitened, whitened) : gram(whitened), atoms);
  const MatrixD rows = by_inputs ? MatrixD() : product_nn(eigen.vectors, whitened);
  MatrixD dictionary(n, atoms);
  for (std::size_t i = 0; i < std::min(atoms, eigen.values.size()); ++i) {
    if (eigen.values[i] <= kNoise * eigen.values.front()) break;
    const double scale = by_inputs ? 1 : 1 / std::sqrt(eigen.values[i]);
    const std::span<const double> from = by_inputs ? eigen.vectors.row(i) : rows.row(i);
    for (std::size_t c = 0; c < n; ++c) dictionary(c, i) = scale * from[c];
  }
  return dictionary;
}

OrthogonalDictionary find_dictionary(const MatrixD& whitened, MatrixD start, std::uint64_t kept,
                                     const CompotOptions& options) {
  OrthogonalDictionary found{std::move(start), {}, {}};
  const double all = energy(whitened);
  for (int i = 0;; ++i) {
    found.coefficients = product_nn(whitened, found.dictionary);
    code(found.coefficients, kept, options.by_row);
    found.losses.push_back(std::max(0.0, all - energy(found.coefficients)));
    const double before = i == 0 ? all : found.losses[found.losses.size() - 2];
    const bool settled = i > 0 && before - found.losses.back() <= options.tolerance * before;
    if (i == options.iterations || settled) return found;
    found.dictionary = polar_factor(product_tn(whitened, found.coefficients));
  }
}

}  // namespace adze
