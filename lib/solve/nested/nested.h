// Codes that serve several widths at once (specification: allocation, 8.2, B): the leading bits of each code are the
// code of a smaller matrix (grid/nested/nested_tensor.h). Minimised is sum over views b of weight_b J(What_b).
//
// Rounding with error feedback as in GPTQ, but each view has errors and so a target of its own; a code is chosen for
// all of them together, by sum_b weight_b (target_b - value_b(code))^2. Scales: for each unit those of its extremes,
// shrunk to 1.00, 0.98 ... 0.60 of the range, whichever leaves the least weighted error over all views.
#pragma once

#include <memory>

#include "solve/solver.h"

namespace adze {

/// Options: views, view_weights, planes, damp, shift.
std::unique_ptr<Solver> configure_nested(MapReader& options);

}  // namespace adze
