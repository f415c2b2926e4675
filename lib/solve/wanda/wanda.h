// Wanda (Sun et al. 2023): in each output row those weights go whose |w| times the norm of their input is least.
// Nothing else moves; restore, rounding and polish are there for those who want more. Specification, section 6.
#pragma once

#include <memory>

#include "solve/solver.h"

namespace adze {

/// Options: those of solve/masks/masked_solver.h; by default kept weights stay as they are and are rounded to nearest.
std::unique_ptr<Solver> configure_wanda(MapReader& options);

}  // namespace adze
