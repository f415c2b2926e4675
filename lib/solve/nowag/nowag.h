// NoWag-P: magnitudes weighed with their inputs as in Wanda, after columns and rows of W were brought to norm 1, so
// that all weights of a matrix can compete. Specification, section 6.
#pragma once

#include <memory>

#include "solve/solver.h"

namespace adze {

/// Options: those of solve/masks/masked_solver.h; by default kept weights stay as they are and are rounded to nearest.
std::unique_ptr<Solver> configure_nowag(MapReader& options);

}  // namespace adze
