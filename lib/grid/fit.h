// Scale searches shared by the grids: weighted least squares over candidate scales, closed form given the codes.
#pragma once

#include <functional>
#include <span>

namespace adze {

/// Rounds a scale to what the grid stores (f16, bf16 ...); monotone, odd, maps 0 to 0.
using StoreScale = std::function<float(float)>;

struct Extremes {
  float lo = 0;
  float hi = 0;
};
/// The smallest and largest of zero and the weights that matter: those of positive importance, or all when none has.
Extremes extremes_of(std::span<const float> weights, std::span<const float> importance);

struct ScaleFit {
  float step = 0;
  double error = 0;
};

/// The scale s >= 0 (any sign when `either_sign`) of value = s * code, lo <= code <= hi, with the least
/// sum importance (w - value)^2 among candidates refined in closed form (s = sum h w l / sum h l^2 given codes l;
/// specification 1.4). Errors are those after storing the scale. Zero for all-zero weights.
ScaleFit fit_scale(std::span<const float> weights, std::span<const float> importance, float lo, float hi,
                   bool either_sign, const StoreScale& store);

struct AffineFit {
  float step = 0;    ///< >= 0
  float offset = 0;  ///< <= 0: value = step * code + offset, code >= 0
};

/// Step and offset for codes 0 .. hi by a 2 x 2 weighted least squares per candidate; offset <= 0 as GGUF's K grids
/// need. In float, before any rounding of step and offset.
AffineFit fit_step_and_offset(std::span<const float> weights, std::span<const float> importance, float hi);

}  // namespace adze
