// Row-wise arithmetic of a block that is not a product: RMS normalisation and the SwiGLU gate.
#pragma once

#include <span>

#include "base/matrix.h"

namespace adze {

/// out = x / sqrt(mean(x^2) + eps) * weight, per row; the mean is taken in double.  x, out: [tokens x n] (may be the
/// same), weight: [n].
void rms_norm(ConstViewF x, std::span<const float> weight, double eps, ViewF out);

/// up = silu(gate) * up, silu(g) = g / (1 + exp(-g)). Equal shapes.
void swiglu(ConstViewF gate, ViewF up);

}  // namespace adze
