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

/// Zeroes all but the `kept` entries whose size is largest, the first of equals.
void keep_largest(std::span<double> values, std::span<const double> sizes_given, std::uint64_t kept) {
  if (kept >= values.size()) return;
  std::vector<double> sizes(sizes_given.begin(), sizes_given.end());
  double threshold = std::numeric_limits<double>::infinity();
  if (kept > 0) {
    const auto last = sizes.begin() + static_cast<std::ptrdiff_t>(kept - 1);
    std::nth_element(sizes.begin(), last, sizes.end(), std::greater<>());
    threshold = *last;
  }
  auto equals =
      static_cast<std::uint64_t>(std::ranges::count_if(sizes_given, [&](double size) { return size > threshold; }));
  equals = kept - equals;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (sizes_given[i] > threshold) continue;
    if (sizes_given[i] == threshold && equals > 0)
      --equals;
    else
      values[i] = 0;
  }
}

/// By size, or by size times what weighs each column.
void code(MatrixD& coefficients, std::uint64_t kept, bool by_row, std::span<const double> column_weights = {}) {
  MatrixD sizes(coefficients.shape());
  for (std::size_t r = 0; r < sizes.rows(); ++r)
    for (std::size_t c = 0; c < sizes.cols(); ++c)
      sizes(r, c) = std::fabs(coefficients(r, c)) * (column_weights.empty() ? 1.0 : column_weights[c]);
  if (!by_row) return keep_largest(coefficients.values(), sizes.values(), kept);
  const std::size_t rows = coefficients.rows();
  parallel_for(rows, [&](std::size_t r) {  // what does not divide goes to the first rows
    keep_largest(coefficients.row(r), sizes.row(r), kept / rows + (r < kept % rows ? 1 : 0));
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

MatrixD single_pass_coefficients(const MatrixD& weights, const MatrixD& whitened, const MatrixD& start,
                                 std::uint64_t kept, double lambda, bool by_row) {
  MatrixD coefficients = product_nn(whitened, start);
  const MatrixD atoms = product_tn(weights, coefficients);  // [n x k]
  std::vector<double> importance(start.cols());
  for (std::size_t j = 0; j < importance.size(); ++j) {
    double energy = 0, squares = 0;
    for (std::size_t r = 0; r < coefficients.rows(); ++r) energy += coefficients(r, j) * coefficients(r, j);
    for (std::size_t c = 0; c < atoms.rows(); ++c) squares += atoms(c, j) * atoms(c, j);
    importance[j] = energy > 0 ? std::pow(std::sqrt(squares) / energy, lambda) : 0;
  }
  code(coefficients, kept, by_row, importance);
  return coefficients;
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
