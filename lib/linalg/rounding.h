// The inner loops of quantization: rounding to an affine grid or a codebook, scaled addition.
// Highway kernels, chosen at run time; rounding is half to even, as in the reference codes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/matrix.h"

namespace adze {

/// Half to even, for |x| < 2^22: adding 1.5 * 2^23 leaves no fraction bits.
inline float round_half_even(float x) {
  constexpr float kMagic = 12582912.0f;
  return (x + kMagic) - kMagic;
}

/// Most levels of a codebook, and those up to which comparing with all is faster than bisection.
constexpr std::size_t kMostLevels = 256;
constexpr std::size_t kFewLevels = 32;

/// Grid of one code position in many rows: value = step * code + offset, lo <= code <= hi. All spans of equal length.
struct AffineColumns {
  std::span<const float> step;
  std::span<const float> offset;
  std::span<const float> lo;
  std::span<const float> hi;
};

/// code[i] = clamp(round((x[i] - offset[i]) / step[i]), lo[i], hi[i]); value[i] = step[i] * code[i] + offset[i].
/// A step of zero gives the code nearest to zero.
void round_to_grid(std::span<const float> x, const AffineColumns& grid, std::span<std::int16_t> codes,
                   std::span<float> values);

/// The same for a codebook: value[i] = step[i] * levels[code[i]] + offset[i], code[i] the index of the level nearest to
/// (x[i] - offset[i]) / step[i]; half way between two, or of equal ones, the upper. levels: ascending, 1 to
/// kMostLevels; lo and hi are not looked at. A step of zero gives the level nearest to zero.
void round_to_codebook(std::span<const float> x, const AffineColumns& grid, std::span<const float> levels,
                       std::span<std::int16_t> codes, std::span<float> values);

/// Codes alone, for one step and offset: as round_to_grid and round_to_codebook give them.
void round_to_step(std::span<const float> x, float step, float offset, float lo, float hi,
                   std::span<std::int16_t> codes);
void round_to_levels(std::span<const float> x, float step, float offset, std::span<const float> levels,
                     std::span<std::int16_t> codes);

/// What codes of one step and offset stand for: values[i] = step * codes[i] + offset, rounded after each operation.
void step_values(std::span<const std::int16_t> codes, float step, float offset, std::span<float> values);

/// y[i, :] += a[i] x for every row i: one column's error passed on to the columns after it.  y: [a.size() x x.size()].
void add_outer(std::span<const float> a, std::span<const float> x, ViewF y);

}  // namespace adze
