// The quantization part of OBQ (specification, section 3.1): a row's weights are rounded one after the other, first the
// one whose rounding costs least, and those not yet rounded make up for it. Weights that have drifted out of the grid's
// range go first, the worst of them first, before they drift further.
#pragma once

#include "base/matrix.h"
#include "grid/quantized_tensor.h"

namespace adze {

/// Rounds one row to the encoding's present step groups; pruned weights stay zero. inverse: (H_KK)^-1 of the row's kept
/// columns K in their order, in double, used up; weights: the row, `in` entries.
void round_greedily(MatrixD& inverse, std::span<const float> weights, std::size_t row, Encoding& encoding);

}  // namespace adze
