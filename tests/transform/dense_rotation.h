// Test helpers: the rotation as a dense matrix, made without the code under test but for the core, and plain products.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/matrix.h"
#include "base/random.h"
#include "transform/hadamard.h"

namespace adze::testing {

/// Row i of Q = diag(signs) (C (x) W) / sqrt(n), W(i, j) = (-1)^(number of common bits of i and j), C of the given
/// order.
inline std::vector<double> dense_rotation_row(std::size_t n, std::size_t core_order, std::uint64_t seed,
                                              std::string_view name, std::size_t i) {
  const MatrixD core = hadamard_core(core_order);
  const std::size_t power = n / core_order;
  RandomStream random(seed, name);
  for (std::size_t skipped = 0; skipped < i; ++skipped) random.next();
  const double sign = random.next() >> 63 ? -1.0 : 1.0;
  std::vector<double> row(n);
  for (std::size_t j = 0; j < n; ++j) {
    const double walsh = std::popcount((i % power) & (j % power)) % 2 == 0 ? 1.0 : -1.0;
    row[j] = sign * core(i / power, j / power) * walsh / std::sqrt(static_cast<double>(n));
  }
  return row;
}

inline MatrixD dense_rotation(std::size_t n, std::size_t core_order, std::uint64_t seed, std::string_view name) {
  MatrixD q(n, n);
  for (std::size_t i = 0; i < n; ++i)
    std::ranges::copy(dense_rotation_row(n, core_order, seed, name, i), q.row(i).begin());
  return q;
}

inline MatrixD transposed(const MatrixD& a) {
  MatrixD t(a.cols(), a.rows());
  for (std::size_t i = 0; i < a.rows(); ++i)
    for (std::size_t j = 0; j < a.cols(); ++j) t(j, i) = a(i, j);
  return t;
}

inline MatrixD product(const MatrixD& a, const MatrixD& b) {
  MatrixD c(a.rows(), b.cols());
  for (std::size_t i = 0; i < a.rows(); ++i)
    for (std::size_t k = 0; k < a.cols(); ++k)
      for (std::size_t j = 0; j < b.cols(); ++j) c(i, j) += a(i, k) * b(k, j);
  return c;
}

inline MatrixD identity(std::size_t n) {
  MatrixD a(n, n);
  for (std::size_t i = 0; i < n; ++i) a(i, i) = 1.0;
  return a;
}

/// diag(block, block, ...) of order n.
inline MatrixD repeated(const MatrixD& block, std::size_t n) {
  MatrixD a(n, n);
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < block.cols(); ++j)
      a(i, i / block.rows() * block.rows() + j) = block(i % block.rows(), j);
  return a;
}

template <typename T>
MatrixD in_double(const Matrix<T>& a) {
  MatrixD b(a.shape());
  for (std::size_t i = 0; i < a.values().size(); ++i) b.values()[i] = static_cast<double>(a.values()[i]);
  return b;
}

/// max |a - b|
template <typename A, typename B>
double largest_difference(const Matrix<A>& a, const Matrix<B>& b) {
  double largest = a.shape() == b.shape() ? 0.0 : INFINITY;
  for (std::size_t i = 0; std::isfinite(largest) && i < a.values().size(); ++i)
    largest = std::fmax(largest, std::fabs(static_cast<double>(a.values()[i]) - static_cast<double>(b.values()[i])));
  return largest;
}

inline MatrixD random_double(Shape shape, std::string_view key) {
  RandomStream random(11, key);
  MatrixD a(shape);
  for (double& value : a.values()) value = random.normal();
  return a;
}

}  // namespace adze::testing
