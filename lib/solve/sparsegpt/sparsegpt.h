// SparseGPT (Frantar and Alistarh 2023; specification, section 5): mask and values in one pass over the columns, each
// removal made up for by the columns after it; with a grid, rounding errors as well. What chooses the mask is
// solve/gptq/mask_choice.h, the pass that of GPTQ.
#pragma once

#include <memory>

#include "solve/solver.h"

namespace adze {

/// Options: damp, scale_rule, polish, refit, shift as GPTQ has them; joint (true): prune and round in one pass, or
/// prune first, then GPTQ on what is left, keeping the mask; enumerate (true): n:m masks with m <= 4 by trying all
/// subsets, else by scores as published.
std::unique_ptr<Solver> configure_sparsegpt(MapReader& options);

}  // namespace adze
