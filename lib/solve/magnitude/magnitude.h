// Magnitude pruning: the smallest weights of a matrix go, whatever their inputs. The baseline of every other method.
// Specification, section 6.
#pragma once

#include <memory>

#include "solve/solver.h"

namespace adze {

/// Options: those of solve/masks/masked_solver.h; by default kept weights stay as they are and are rounded to nearest.
std::unique_ptr<Solver> configure_magnitude(MapReader& options);

}  // namespace adze
