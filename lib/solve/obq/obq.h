// ExactOBS, the pruning and quantization that Optimal Brain Surgeon asks for, row by row (Frantar and Alistarh 2022;
// specification, section 3): the weight whose removal costs least goes first, all others make up for it, and so on. How
// many go in each row is decided among all rows by what they cost. With a grid, what is left is rounded in the same
// greedy way: the weight whose rounding costs least first, the others making up for it.
//
// Exact and costly, O(in^3) a row: an oracle, and a solver for layers of up to a few thousand inputs.
#pragma once

#include <memory>

#include "solve/solver.h"

namespace adze {

/// Options: damp, scale_rule, polish, refit, shift as GPTQ has them; a sparsity, a grid, or both.
std::unique_ptr<Solver> configure_obq(MapReader& options);

}  // namespace adze
