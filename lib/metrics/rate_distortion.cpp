#include "metrics/rate_distortion.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <functional>
#include <limits>
#include <numbers>
#include <numeric>

#include "linalg/eigen.h"
#include "linalg/gemm.h"

namespace adze {
namespace {

constexpr std::size_t kSliceRows = 2048;  // of W in double at a time

/// Those above 0, descending. What is smaller than a double can tell from 0 beside the largest one is rounding.
std::vector<double> positive_descending(std::span<const double> values) {
  const double most = values.empty() ? 0 : std::ranges::max(values);
  std::vector<double> kept;
  for (const double value : values)
    if (value > 0 && value >= most * std::numeric_limits<double>::epsilon()) kept.push_back(value);
  std::ranges::sort(kept, std::greater{});
  return kept;
}

std::vector<double> logarithms(std::span<const double> values) {
  std::vector<double> logs(values.size());
  std::ranges::transform(values, logs.begin(), [](double value) { return std::log(value); });
  return logs;
}

double sum_of(std::span<const double> values) { return std::accumulate(values.begin(), values.end(), 0.0); }

}  // namespace

RateDistortion::RateDistortion(std::span<const double> row_variances, std::span<const double> eigenvalues)
    : weights_(static_cast<double>(row_variances.size()) * static_cast<double>(eigenvalues.size())),
      variances_(positive_descending(row_variances)),
      log_variances_(logarithms(variances_)),
      eigenvalues_(positive_descending(eigenvalues)),
      log_eigenvalues_(logarithms(eigenvalues_)),
      tail_sums_(eigenvalues_.size() + 1),
      log_sums_(eigenvalues_.size() + 1) {
  for (std::size_t k = eigenvalues_.size(); k-- > 0;) tail_sums_[k] = tail_sums_[k + 1] + eigenvalues_[k];
  for (std::size_t k = 0; k < eigenvalues_.size(); ++k) log_sums_[k + 1] = log_sums_[k] + log_eigenvalues_[k];
  loss_of_nothing_ = sum_of(variances_) * tail_sums_[0];
}

// Both factors descend, so the components of a row that stand above the water are its first k, and k falls from row to
// row: one walk along the edge of the table of products.
RateDistortion::Point RateDistortion::at(double log_theta) const {
  const double theta = std::exp(log_theta);
  Point point;
  double nats = 0;
  std::size_t k = eigenvalues_.size();
  for (std::size_t r = 0; r < variances_.size(); ++r) {
    while (k > 0 && log_variances_[r] + log_eigenvalues_[k - 1] <= log_theta) --k;
    const auto above = static_cast<double>(k);
    point.loss += above * theta + variances_[r] * tail_sums_[k];
    nats += 0.5 * (above * (log_variances_[r] - log_theta) + log_sums_[k]);
  }
  point.bits = nats / std::numbers::ln2;
  return point;
}

double RateDistortion::components() const {
  return static_cast<double>(variances_.size()) * static_cast<double>(eigenvalues_.size());
}

template <typename Wanted>
RateDistortion::Point RateDistortion::search(Wanted&& wanted) const {
  double low = log_variances_.back() + log_eigenvalues_.back();
  double high = log_variances_.front() + log_eigenvalues_.front();
  for (;;) {
    const double middle = std::midpoint(low, high);
    if (middle <= low || middle >= high) return at(high);
    (wanted(at(middle)) ? high : low) = middle;
  }
}

// Below the smallest component all are above water, where D = components * theta and the rate is a line in log theta.
double RateDistortion::bits_at_loss(double loss) const {
  if (loss >= loss_of_nothing_) return 0;
  if (loss <= 0) return std::numeric_limits<double>::infinity();
  const double level = std::log(loss / components());
  if (level <= log_variances_.back() + log_eigenvalues_.back()) return at(level).bits / weights_;
  return search([&](const Point& point) { return point.loss >= loss; }).bits / weights_;
}

double RateDistortion::loss_at_bits(double bits) const {
  assert(bits >= 0);
  if (bits == 0 || loss_of_nothing_ == 0) return loss_of_nothing_;
  const double all = bits * weights_;
  const double least = log_variances_.back() + log_eigenvalues_.back();
  const double beyond = all - at(least).bits;
  if (beyond >= 0) return components() * std::exp(least - 2 * std::numbers::ln2 * beyond / components());
  return search([&](const Point& point) { return point.bits <= all; }).loss;
}

std::vector<double> row_variances(ConstViewF weights) {
  std::vector<double> variances(weights.rows());
  for (std::size_t r = 0; r < weights.rows(); ++r) {
    double sum = 0;
    for (const float value : weights.row(r)) sum += static_cast<double>(value) * value;
    variances[r] = sum / static_cast<double>(weights.cols());
  }
  return variances;
}

RowStructure row_structure(ConstViewF weights, std::span<const double> variances) {
  assert(variances.size() == weights.rows());
  const std::size_t cols = weights.cols();
  RowStructure structure{MatrixD(cols, cols), 0};
  MatrixD& s = structure.covariance;
  double rows = 0;
  for (std::size_t first = 0; first < weights.rows(); first += kSliceRows) {
    MatrixD slice(std::min(kSliceRows, weights.rows() - first), cols);
    for (std::size_t r = 0; r < slice.rows(); ++r) {
      const double variance = variances[first + r];
      if (!(variance > 0)) continue;
      const double scale = 1 / std::sqrt(variance);
      for (std::size_t c = 0; c < cols; ++c) slice(r, c) = scale * static_cast<double>(weights(first + r, c));
      ++rows;
    }
    const MatrixD sums = product_tn(slice, slice);
    for (std::size_t i = 0; i < s.values().size(); ++i) s.values()[i] += sums.values()[i];
  }
  if (rows == 0) {
    for (std::size_t c = 0; c < cols; ++c) s(c, c) = 1;
    structure.shrinkage = 1;
    return structure;
  }
  double squares = 0;
  for (double& value : s.values()) {
    value /= rows;
    squares += value * value;
  }
  // Ledoit and Wolf's two distances: of S from the identity, and of the samples from S; |w w^T| is C for every row.
  const auto n = static_cast<double>(cols);
  const double from_identity = squares - n, of_samples = (n * n - squares) / rows;
  structure.shrinkage = from_identity > of_samples ? of_samples / from_identity : 1;
  for (double& value : s.values()) value *= 1 - structure.shrinkage;
  for (std::size_t c = 0; c < cols; ++c) s(c, c) += structure.shrinkage;
  return structure;
}

std::vector<double> structured_eigenvalues(const RowStructure& structure, const MatrixD& root) {
  return symmetric_eigenvalues(product_tn(root, product_nn(structure.covariance, root)));
}

}  // namespace adze
