#include "solve/delta/delta.h"

#include <algorithm>
#include <cmath>

#include "base/dtype.h"
#include "base/error.h"
#include "base/random.h"
#include "metrics/proxy_loss.h"
#include "solve/factors/low_rank.h"

namespace adze {
namespace {

double diagonal(ConstViewD h, std::size_t j) { return h.rows() == 0 ? 1.0 : h(j, j); }

std::size_t row_bytes(Shape shape) { return (shape.cols + 7) / 8; }

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

SignDelta with_scales(ConstViewF delta, std::span<const double> scales) {
  const Shape shape = delta.shape();
  SignDelta result{shape, std::vector<std::byte>(shape.rows * row_bytes(shape)), {}};
  for (std::size_t r = 0; r < shape.rows; ++r)
    for (std::size_t c = 0; c < shape.cols; ++c)
      if (delta(r, c) < 0) result.signs[r * row_bytes(shape) + c / 8] |= static_cast<std::byte>(1 << (c % 8));
  std::ranges::transform(scales, std::back_inserter(result.scales), stored);
  return result;
}

/// Ratios of each row, or of the sums.
std::vector<double> ratios(std::span<const double> above, std::span<const double> below, DeltaScope scope) {
  const auto ratio = [](double a, double b) { return b > 0 ? a / b : 0.0; };
  if (scope == DeltaScope::matrix) return {ratio(sum_of(above), sum_of(below))};
  std::vector<double> result(above.size());
  std::ranges::transform(above, below, result.begin(), ratio);
  return result;
}

/// Calls body(row, column) for the places that are kept, row by row.
template <class Body>
void for_kept(Shape shape, double probability, std::uint64_t seed, const std::string& stream, Body&& body) {
  RandomStream random(seed, stream);
  for (std::size_t r = 0; r < shape.rows; ++r)
    for (std::size_t c = 0; c < shape.cols; ++c)
      if (random.uniform() >= probability) body(r, c);
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

MatrixF SignDelta::decode() const {
  MatrixF values(shape);
  for (std::size_t r = 0; r < shape.rows; ++r) {
    const float scale = f16_to_float(scales.size() == 1 ? scales[0] : scales[r]);
    for (std::size_t c = 0; c < shape.cols; ++c) {
      const bool negative = (std::to_integer<int>(signs[r * row_bytes(shape) + c / 8]) >> (c % 8) & 1) != 0;
      values(r, c) = negative ? -scale : scale;
    }
  }
  return values;
}

SignDelta mean_sign_delta(ConstViewF delta, DeltaScope scope) {
  std::vector<double> magnitudes(delta.rows()), counts(delta.rows(), static_cast<double>(delta.cols()));
  for (std::size_t r = 0; r < delta.rows(); ++r)
    for (const float value : delta.row(r)) magnitudes[r] += std::fabs(double{value});
  return with_scales(delta, ratios(magnitudes, counts, scope));
}

SignDelta best_sign_delta(ConstViewF delta, ConstViewD h, DeltaScope scope) {
  const MatrixF signs = signs_of(delta);
  const MatrixD signs_h = times_moment(to_double(signs), h);
  return with_scales(delta, ratios(row_products(delta, signs_h), row_products(signs, signs_h), scope));
}

MatrixF DroppedDelta::decode() const {
  MatrixF values(shape);
  std::size_t next = 0;
  for_kept(shape, probability, seed, stream, [&](std::size_t r, std::size_t c) {
    if (next < kept.size()) values(r, c) = scale * f16_to_float(kept[next]);
    ++next;
  });
  if (next != kept.size())
    fail(ErrorKind::bad_data, "{} values of a dropped delta where its mask keeps {}", kept.size(), next);
  return values;
}

std::vector<double> drop_variances(ConstViewF delta, ConstViewD h, double probability) {
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

DroppedDelta drop_delta(ConstViewF delta, ConstViewD h, const DropOptions& options) {
  if (!(options.probability >= 0 && options.probability < 1))
    fail(ErrorKind::bad_recipe, "entries of a delta are dropped with a probability from 0 to below 1, not {}",
         options.probability);
  DroppedDelta result{delta.shape(), options.probability, options.seed, options.stream, 1, {}};
  for_kept(delta.shape(), options.probability, options.seed, options.stream, [&](std::size_t r, std::size_t c) {
    result.kept.push_back(float_to_f16(delta(r, c)));
    if (!std::isfinite(f16_to_float(result.kept.back())))
      fail(ErrorKind::bad_data, "row {}, column {}: a delta of {} does not fit f16", r, c, delta(r, c));
  });
  result.scale = static_cast<float>(1 / (1 - options.probability));
  if (!options.best_scale) return result;
  DroppedDelta unscaled = result;
  unscaled.scale = 1;
  const MatrixF kept = unscaled.decode();
  const MatrixD kept_h = times_moment(to_double(kept), h);
  const double energy = sum_of(row_products(kept, kept_h));
  if (energy > 0) result.scale = static_cast<float>(sum_of(row_products(delta, kept_h)) / energy);
  return result;
}

}  // namespace adze
