// Elementwise exponentials over rows, the part of attention, of the gate and of softmax that is not a product, and
// extremes of rows.
// Highway kernels with a polynomial of our own, so that every element's bits depend on that element alone.
#pragma once

#include <span>

namespace adze {

/// The largest value; not empty, no NaN.
float largest(std::span<const float> values);

/// The largest |value|; 0 where there are none. No NaN.
float largest_magnitude(std::span<const float> values);

/// out = exp((in - shift) * scale); returns the sum of out, taken in double in a fixed order. Relative error below 2e-7
/// of the exponential of the (rounded) argument from -87 on; smaller arguments give 0, those above 88 saturate. Meant
/// for arguments <= 0: the shift is the maximum. `in` and `out` may be the same.
double exp_shifted(std::span<const float> in, float shift, float scale, std::span<float> out);

/// values *= factor.
void multiply_by(float factor, std::span<float> values);

/// up *= silu(gate), silu(g) = g / (1 + exp(-g)). Equal sizes.
void multiply_by_silu(std::span<const float> gate, std::span<float> up);

}  // namespace adze
