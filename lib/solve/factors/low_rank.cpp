#include "solve/factors/low_rank.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "linalg/eigen.h"
#include "linalg/gemm.h"
#include "linalg/inverse.h"

namespace adze {
namespace {

constexpr double kSmallestEigenvalue = 1e-10;  // of the largest, of H: less is rounding
constexpr double kSmallestSigma = 1e-7;        // of the largest: squares in double resolve no less

MatrixD copy_of(ConstViewD values) {
  MatrixD copy(values.shape());
  for (std::size_t r = 0; r < values.rows(); ++r) std::ranges::copy(values.row(r), copy.row(r).begin());
  return copy;
}

std::vector<double> clamped(std::vector<double> values) {
  for (double& value : values) value = std::max(value, 0.0);
  return values;
}

std::size_t directions_above_noise(const std::vector<double>& energy, std::size_t count) {
  const double least = kSmallestSigma * kSmallestSigma * energy.front();
  std::size_t seen = 0;
  while (seen < count && energy[seen] > least) ++seen;
  return seen;
}

MatrixD first_rows(const MatrixD& matrix, std::size_t count) { return copy_of(matrix.view().row_range(0, count)); }

/// m <= n: eigenvectors of W H W^T are the directions themselves.
OutputSpectrum spectrum_by_outputs(ConstViewD weights, ConstViewD h, std::size_t count) {
  MatrixD gram_matrix = h.rows() == 0 ? gram(weights) : product_nt(times_moment(weights, h), weights);
  for (std::size_t r = 0; r < gram_matrix.rows(); ++r)
    for (std::size_t c = 0; c < r; ++c)
      gram_matrix(r, c) = gram_matrix(c, r) = 0.5 * (gram_matrix(r, c) + gram_matrix(c, r));
  SymmetricEigen eigen = symmetric_eigen(std::move(gram_matrix));
  std::vector<double> energy = clamped(std::move(eigen.values));
  const std::size_t seen = directions_above_noise(energy, count);
  return {std::move(energy), first_rows(eigen.vectors, seen)};
}

/// m > n: eigenvectors v_i of (W C)^T (W C) give u_i = W C v_i / sigma_i.
OutputSpectrum spectrum_by_inputs(ConstViewD weights, const MatrixD& root, std::size_t count) {
  const MatrixD whitened = times_root(weights, root);
  SymmetricEigen eigen = symmetric_eigen(product_tn(whitened, whitened));
  OutputSpectrum spectrum{clamped(std::move(eigen.values)), {}};
  const std::size_t seen = directions_above_noise(spectrum.energy, count);
  spectrum.basis = product_nt(first_rows(eigen.vectors, seen), whitened);
  for (std::size_t i = 0; i < seen; ++i) {
    const double scale = 1 / std::sqrt(spectrum.energy[i]);
    for (double& value : spectrum.basis.row(i)) value *= scale;
  }
  return spectrum;
}

}  // namespace

MatrixD transposed(ConstViewD values) {
  MatrixD flipped(values.cols(), values.rows());
  for (std::size_t r = 0; r < values.rows(); ++r)
    for (std::size_t c = 0; c < values.cols(); ++c) flipped(c, r) = values(r, c);
  return flipped;
}

MatrixD to_double(ConstViewF values) {
  MatrixD copy(values.shape());
  for (std::size_t r = 0; r < values.rows(); ++r) std::ranges::copy(values.row(r), copy.row(r).begin());
  return copy;
}

MatrixF to_single(ConstViewD values) {
  MatrixF copy(values.shape());
  for (std::size_t r = 0; r < values.rows(); ++r)
    std::ranges::transform(values.row(r), copy.row(r).begin(), [](double v) { return static_cast<float>(v); });
  return copy;
}

MatrixD times_moment(ConstViewD weights, ConstViewD h) {
  return h.rows() == 0 ? copy_of(weights) : product_nn(weights, h);
}

MatrixD times_root(ConstViewD weights, const MatrixD& root) {
  return root.empty() ? copy_of(weights) : product_nn(weights, root);
}

MatrixD moment_root(ConstViewD h) {
  if (h.rows() == 0) return {};
  MatrixD root = copy_of(h);
  if (cholesky(root)) {
    for (std::size_t r = 0; r < root.rows(); ++r) std::ranges::fill(root.row(r).subspan(r + 1), 0.0);
    return root;
  }
  const SymmetricEigen eigen = symmetric_eigen(copy_of(h));
  for (std::size_t i = 0; i < root.rows(); ++i) {
    const double value = eigen.values[i] > kSmallestEigenvalue * eigen.values.front() ? std::sqrt(eigen.values[i]) : 0;
    for (std::size_t r = 0; r < root.rows(); ++r) root(r, i) = value * eigen.vectors(i, r);
  }
  return root;
}

OutputSpectrum output_spectrum(ConstViewD weights, ConstViewD h, const MatrixD& root, std::size_t count) {
  assert(count <= std::min(weights.rows(), weights.cols()) && (h.rows() == 0 || h.rows() == weights.cols()));
  if (weights.rows() <= weights.cols()) return spectrum_by_outputs(weights, h, count);
  return spectrum_by_inputs(weights, root, count);
}

double tail(const std::vector<double>& energy, std::size_t rank) {
  double sum = 0;  // from the smallest on
  for (std::size_t i = energy.size(); i-- > rank;) sum += energy[i];
  return sum;
}

Factors leading_factors(ConstViewD weights, const OutputSpectrum& spectrum) {
  return {transposed(spectrum.basis), product_nn(spectrum.basis, weights)};
}

Factors sketched_factors(ConstViewD weights, ConstViewD h, std::size_t rank) {
  const auto times = [&](const MatrixD& rows) {
    return product_nt(times_moment(product_nn(rows, weights), h), weights);
  };
  const MatrixD basis = sketched_eigen(weights.rows(), rank, times).vectors;
  return {transposed(basis), product_nn(basis, weights)};
}

bool sketch_pays(Shape shape, std::size_t rank) {
  constexpr std::size_t kSmallestSide = 1024;
  const std::size_t side = std::min(shape.rows, shape.cols);
  return side >= kSmallestSide && 8 * rank <= side;
}

MatrixD best_left(ConstViewD weights, ConstViewD h, ConstViewD right) {
  constexpr double kDamping = 1e-10;  // of the mean of the diagonal, ten times more until it is positive definite
  const MatrixD seen = times_moment(right, h);
  const MatrixD moment = product_nt(seen, right);
  const MatrixD wanted = product_nt(weights, seen);
  double mean = 0;
  for (std::size_t i = 0; i < moment.rows(); ++i) mean += moment(i, i) / static_cast<double>(moment.rows());
  if (mean == 0)
    return MatrixD(weights.rows(), right.rows());  // nothing of the input enters what the right factor sees
  for (double damping = kDamping; damping < 1; damping *= 10) {
    MatrixD damped = moment;
    MatrixD left = wanted;
    for (std::size_t i = 0; i < damped.rows(); ++i) damped(i, i) += damping * mean;
    if (solve_right(damped, left)) return left;
  }
  fail(ErrorKind::internal, "the moment of a right factor cannot be factored");
}

}  // namespace adze
