#include "solve/delta/delta.h"

#include <algorithm>
#include <cmath>

#include "base/dtype.h"
#include "base/error.h"
#include "metrics/proxy_loss.h"
#include "solve/factors/low_rank.h"

namespace adze {
namespace {

double diagonal(ConstViewD h, std::size_t j) { return h.rows() == 0 ? 1.0 : h(j, j); }

/// +1 and -1; a zero, of either sign, counts as positive.
MatrixF signs_of(ConstViewF delta) {
  MatrixF signs(delta.shape());
  for (std::size_t r = 0; r < delta.rows(); ++r)
    for (std::size_t c = 0; c < delta.cols(); ++c) signs(r, c) = delta(r, c) < 0 ? -1.0f : 1.0f;
  return signs;
}

/// a H b^T of every pair of rows with the same number, b_h = b H.
std::vector<double> row_products(ConstViewF a, const MatrixD& b_h) {
  std::vector<double> products(a.rows());
  for (std::size_t r = 0; r < a.rows(); ++r)
    for (std::size_t c = 0; c < a.cols(); ++c) products[r] += double{a(r, c)} * b_h(r, c);
  return products;
}

double sum_of(std::span<const double> values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum;
}

std::uint16_t stored(double scale) {
  const std::uint16_t bits = float_to_f16(static_cast<float>(scale));
  if (!std::isfinite(f16_to_float(bits))) fail(ErrorKind::bad_data, "a scale of {} does not fit f16", scale);
  return bits;
}

SignTensor with_scales(ConstViewF delta, std::span<const double> scales, SignScope scope) {
  std::vector<std::uint16_t> bits(scales.size());
  std::ranges::transform(scales, bits.begin(), stored);
  return SignTensor::of_values(scope, delta, bits);
}

/// Ratios of each row, or of the sums.
std::vector<double> ratios(std::span<const double> above, std::span<const double> below, SignScope scope) {
  const auto ratio = [](double a, double b) { return b > 0 ? a / b : 0.0; };
  if (scope == SignScope::matrix) return {ratio(sum_of(above), sum_of(below))};
  std::vector<double> result(above.size());
  std::ranges::transform(above, below, result.begin(), ratio);
  return result;
}

void check_probability(double probability) {
  if (!(probability >= 0 && probability < 1))
    fail(ErrorKind::bad_recipe, "entries of a delta are dropped with a probability from 0 to below 1, not {}",
         probability);
}

}  // namespace

MatrixF delta_of(ConstViewF tuned, ConstViewF base) {
  if (tuned.shape() != base.shape())
    fail(ErrorKind::bad_data, "a fine-tuned matrix of {} x {} weights and its base of {} x {}", tuned.rows(),
         tuned.cols(), base.rows(), base.cols());
  MatrixF delta(tuned.shape());
  for (std::size_t r = 0; r < tuned.rows(); ++r)
    for (std::size_t c = 0; c < tuned.cols(); ++c) delta(r, c) = tuned(r, c) - base(r, c);
  return delta;
}

SignTensor mean_sign_delta(ConstViewF delta, SignScope scope) {
  std::vector<double> magnitudes(delta.rows()), counts(delta.rows(), static_cast<double>(delta.cols()));
  for (std::size_t r = 0; r < delta.rows(); ++r)
    for (const float value : delta.row(r)) magnitudes[r] += std::fabs(double{value});
  return with_scales(delta, ratios(magnitudes, counts, scope), scope);
}

SignTensor best_sign_delta(ConstViewF delta, ConstViewD h, SignScope scope) {
  const MatrixF signs = signs_of(delta);
  const MatrixD signs_h = times_moment(to_double(signs), h);
  return with_scales(delta, ratios(row_products(delta, signs_h), row_products(signs, signs_h), scope), scope);
}

std::vector<double> drop_variances(ConstViewF delta, ConstViewD h, double probability) {
  check_probability(probability);
  std::vector<double> variances(delta.rows());
  for (std::size_t r = 0; r < delta.rows(); ++r) {
    for (std::size_t c = 0; c < delta.cols(); ++c) variances[r] += double{delta(r, c)} * delta(r, c) * diagonal(h, c);
    variances[r] *= probability / (1 - probability);
  }
  return variances;
}

double relative_drop_variance(ConstViewF delta, ConstViewF tuned, ConstViewD h, double probability) {
  const MatrixD tuned_h = times_moment(to_double(tuned), h);
  return sum_of(drop_variances(delta, h, probability)) / sum_of(row_products(tuned, tuned_h));
}

DroppedTensor drop_delta(ConstViewF delta, ConstViewD h, const DropMask& mask, bool best_factor) {
  const DroppedTensor unbiased =
      DroppedTensor::of_values(mask, delta, static_cast<float>(1 / (1 - mask.probability())));
  if (!best_factor) return unbiased;
  const MatrixF kept = unbiased.with_factor(1).decode();
  const MatrixD kept_h = times_moment(to_double(kept), h);
  const double energy = sum_of(row_products(kept, kept_h));
  if (energy <= 0) return unbiased;
  return unbiased.with_factor(static_cast<float>(sum_of(row_products(delta, kept_h)) / energy));
}

}  // namespace adze
