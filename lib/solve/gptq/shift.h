// The target of a layer whose inputs have drifted: compressed blocks before it give x where the original model gave
// x_reference. The layer should answer x as the original answered x_reference, W x_reference, and, where its output is
// added to states that have drifted by s_reference - s, make up for that as well. Ridge regression over the calibration
// tokens (specification 2.7, target shift, with the states' drift added):
//   W* = W + strength (W cross + residual) (H + ridge mean(diag H) I)^-1
// The ridge keeps the correction to what many tokens agree on; with GPTQ's own damping of 0.01 in its place, Q3_K
// calibrated on encyclopedia text and judged on source code got worse than without a shift (mean KL 0.0318 to 0.0263),
// with 0.3 better (0.0230, polished), while text like the calibration set's hardly notices (0.0065 to 0.0067).
#pragma once

#include <string>
#include <vector>

#include "base/matrix.h"
#include "solve/solver.h"

namespace adze {

/// W* of every tensor of a problem with a cross moment. strength: 0 (nothing) to 1. Empty, with a remark, when H with
/// the ridge cannot be factored. Dead inputs are left alone.
std::vector<MatrixF> shifted_targets(const Problem& problem, double strength, std::string& remarks);

}  // namespace adze
