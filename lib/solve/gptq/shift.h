// The target of a layer whose inputs have drifted: compressed blocks before it give x where the original model gave
// x_reference. The layer should answer x as the original answered x_reference, W x_reference, and, where its output is
// added to states that have drifted by s_reference - s, make up for that as well. Least squares over the calibration
// tokens (specification 2.7, target shift, with the states' drift added):
//   W* = W + strength (W cross + residual) H_d^-1
#pragma once

#include "base/matrix.h"
#include "solve/gptq/factor.h"
#include "solve/solver.h"

namespace adze {

/// W* for one tensor of a problem with a cross moment. strength: 0 (nothing) to 1 (least squares). [out x in]
MatrixF shifted_target(const Problem& problem, std::size_t index, const GptqFactor& factor, double strength);

}  // namespace adze
