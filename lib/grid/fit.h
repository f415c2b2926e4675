// Scale searches shared by the grids: weighted least squares over candidate scales, closed form given the codes.
// Weights below kNegligible in magnitude count as zeros: no f16 scale is that small, and their inverses overflow.
#pragma once

#include <span>

#include "base/dtype.h"
#include "linalg/affine_search.h"

namespace adze {

constexpr float kNegligible = 1e-30f;

/// A scale as a dtype (f32, f16, bf16) keeps it; beyond the dtype's range, its largest value;
/// beyond what 256 codes may multiply, the largest that they may.
float store_scale(DType dtype, float scale);

struct Extremes {
  float lo = 0;
  float hi = 0;

  /// The one of larger magnitude.
  float top() const { return hi >= -lo ? hi : lo; }
};
/// The smallest and largest of zero and the weights that matter: those of positive importance, or all when none has.
Extremes extremes_of(std::span<const float> weights, std::span<const float> importance);

/// The codes of value = step * code, lo <= code <= hi. `either_sign`: the step may be negative.
struct CodeRange {
  float lo = 0;
  float hi = 0;
  bool either_sign = false;
};

/// The step with the least sum importance (w - value)^2 among candidates refined in closed form (s = sum h w l /
/// sum h l^2 given codes l; specification 1.4), before it is stored. Zero for all-zero weights.
float fit_scale(std::span<const float> weights, std::span<const float> importance, CodeRange range);
/// The same among stored steps, by their own codes and errors; `plain`, a stored step, is a candidate too.
float fit_stored_scale(std::span<const float> weights, std::span<const float> importance, CodeRange range, DType dtype,
                       float plain);

/// The step of value = step * level with the least weighted squared error; either sign, not stored yet.
float fit_level_scale(std::span<const float> weights, std::span<const float> importance, std::span<const float> levels);

/// The candidates for codes 0 .. largest_code (linalg/affine_search.h). GGUF's K grids have offsets of at most zero.
AffineSearch affine_search(float largest_code, bool any_offset);

}  // namespace adze
