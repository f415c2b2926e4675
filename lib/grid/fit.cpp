#include "grid/fit.h"

#include <algorithm>
#include <cmath>

#include "linalg/rounding.h"

namespace adze {
namespace {

/// Candidates put the largest magnitude at code `reach`, from beyond the range (clipping it) down to inside it.
/// The finer the grid, the less clipping pays: reach ends at 1.1 x range for 8 bits and at 2.4 x for 2 bits.
struct Reach {
  float first;
  float last;
  int count;
};
Reach reach_for(float range) {
  const float clip = 1.0f + 2.8f / (range + 1.0f);
  return {std::max(range - 0.9f, 0.5f), range * clip + 0.4f, 36};
}

}  // namespace

Extremes extremes_of(std::span<const float> weights, std::span<const float> importance) {
  const bool any = std::ranges::any_of(importance, [](float h) { return h > 0; });
  Extremes extremes;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (any && !(importance[i] > 0)) continue;
    extremes.lo = std::min(extremes.lo, weights[i]);
    extremes.hi = std::max(extremes.hi, weights[i]);
  }
  return extremes;
}

ScaleFit fit_scale(std::span<const float> weights, std::span<const float> importance, float lo, float hi,
                   bool either_sign, const StoreScale& store) {
  const Extremes extremes = extremes_of(weights, importance);
  const float top = extremes.hi >= -extremes.lo ? extremes.hi : extremes.lo;
  if (top == 0) return {};
  // With either sign the extreme goes to the longer side of the range (-8 of -8..7), else to the side of its sign.
  const float range = either_sign ? std::max(-lo, hi) : std::max(hi, 1.0f);
  const float sign = either_sign ? (-lo > hi ? -1.0f : 1.0f) * (top > 0 ? 1.0f : -1.0f) : 1.0f;
  const Reach reach = reach_for(range);
  ScaleFit best{0, INFINITY};
  for (int i = 0; i < reach.count; ++i) {
    const float at =
        reach.first + (reach.last - reach.first) * static_cast<float>(i) / static_cast<float>(reach.count - 1);
    const float inverse = sign * at / std::fabs(top);
    const CodeMoments m = code_moments(weights, importance, inverse, 0.0f, lo, hi);
    // No important weight leaves a code: any scale is as good, keep the candidate itself.
    const float refined = m.ll > 0 && m.xl != 0 ? m.xl / m.ll : 1.0f / inverse;
    const float step = store(refined);
    if (step == 0 || !std::isfinite(step) || (!either_sign && step < 0)) continue;
    const double error = rounding_error(weights, importance, step, 0.0f, lo, hi);
    if (error < best.error) best = {step, error};
  }
  return std::isinf(best.error) ? ScaleFit{} : best;
}

AffineFit fit_step_and_offset(std::span<const float> weights, std::span<const float> importance, float hi) {
  const auto [low, high] = extremes_of(weights, importance);
  if (high <= low) return {};
  double sum_w = 0;
  double sum_x = 0;
  double sum_xx = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const double h = importance[i];
    sum_w += h;
    sum_x += h * weights[i];
    sum_xx += h * weights[i] * weights[i];
  }
  AffineFit best{(high - low) / hi, low};
  if (!(sum_w > 0)) return best;
  double best_error = INFINITY;
  const Reach reach = reach_for(hi);
  for (int i = 0; i < reach.count; ++i) {
    const float at =
        reach.first + (reach.last - reach.first) * static_cast<float>(i) / static_cast<float>(reach.count - 1);
    const float inverse = at / (high - low);
    const CodeMoments m = code_moments(weights, importance, inverse, low * inverse, 0.0f, hi);
    const double determinant = sum_w * m.ll - static_cast<double>(m.l) * m.l;
    if (!(determinant > 1e-12 * sum_w * m.ll)) continue;
    double step = (sum_w * m.xl - sum_x * m.l) / determinant;
    double offset = (m.ll * sum_x - static_cast<double>(m.l) * m.xl) / determinant;
    if (offset > 0) {
      offset = 0;
      step = m.xl / m.ll;
    }
    if (!(step > 0)) continue;
    // sum h (x - s l - o)^2, expanded.
    const double error = sum_xx + step * step * m.ll + offset * offset * sum_w - 2 * step * m.xl - 2 * offset * sum_x +
                         2 * step * offset * m.l;
    if (error < best_error) {
      best_error = error;
      best = {static_cast<float>(step), static_cast<float>(offset)};
    }
  }
  return best;
}

}  // namespace adze
