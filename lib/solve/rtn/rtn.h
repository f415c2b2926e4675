// Round to nearest: every weight goes to the closest value of its grid; inputs matter only through diag(H), which
// weighs the scale search (specification, section 1). The baseline that other solvers must beat.
#pragma once

#include <memory>

#include "solve/solver.h"

namespace adze {

/// Options: scale_rule (search, minmax).
std::unique_ptr<Solver> configure_rtn(MapReader& options);

/// RTN as a building block: one tensor of a problem.
Solution solve_rtn(const Problem& problem, std::size_t index, ScaleRule rule, SolveReport report);

}  // namespace adze
