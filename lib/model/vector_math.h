// Elementwise exponentials over rows, the part of attention, of the gate and of softmax that is not a product.
// Highway kernels with a polynomial of our own, so that every element's bits depend on that element alone.
#pragma once

#include <span>

namespace adze {

/// values = exp(values); returns their sum, taken in double in a fixed order. Relative error below 2e-7 for arguments
/// of -87 and above; smaller arguments give 0. Meant for arguments <= 0 (a maximum subtracted); above 88 saturates.
double exp_in_place(std::span<float> values);

/// up *= silu(gate), silu(g) = g / (1 + exp(-g)). Equal sizes.
void multiply_by_silu(std::span<const float> gate, std::span<float> up);

}  // namespace adze
