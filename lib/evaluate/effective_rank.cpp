#include "evaluate/effective_rank.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "linalg/eigen.h"
#include "linalg/gemm.h"

namespace adze {
namespace {

/// Centred rows of length 1; a row that is the mean stays 0.
MatrixD unit_rows(ConstViewF states) {
  std::vector<double> mean(states.cols());
  for (std::size_t t = 0; t < states.rows(); ++t)
    for (std::size_t c = 0; c < states.cols(); ++c) mean[c] += states(t, c);
  for (double& value : mean) value /= static_cast<double>(states.rows());
  MatrixD rows(states.shape());
  for (std::size_t t = 0; t < states.rows(); ++t) {
    double square = 0;
    for (std::size_t c = 0; c < states.cols(); ++c) {
      rows(t, c) = states(t, c) - mean[c];
      square += rows(t, c) * rows(t, c);
    }
    if (square == 0) continue;
    for (double& value : rows.row(t)) value /= std::sqrt(square);
  }
  return rows;
}

/// R^T R or R R^T, whichever is smaller: the eigenvalues but for zeros are the same.
MatrixD smaller_gram(const MatrixD& rows) {
  const bool wide = rows.rows() < rows.cols();
  const std::size_t n = wide ? rows.rows() : rows.cols();
  MatrixD gram(n, n);
  if (wide)
    multiply_nt(rows.view(), rows.view(), gram.view());
  else
    multiply_tn(rows.view(), rows.view(), gram.view());
  return gram;
}

}  // namespace

double entropy_rank(std::span<const double> values) {
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  if (!(sum > 0)) return 0;
  double entropy = 0;
  for (const double value : values)
    if (value > 0) entropy -= value / sum * std::log(value / sum);
  return std::exp(entropy);
}

double effective_rank(ConstViewF states) {
  std::vector<double> values = symmetric_eigenvalues(smaller_gram(unit_rows(states)));
  for (double& value : values) value = std::max(value, 0.0);  // rounding
  return entropy_rank(values);
}

}  // namespace adze
