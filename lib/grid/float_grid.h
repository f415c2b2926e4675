// Floats as a grid, for solvers that prune without quantizing: a code is the bits of an f16 or bf16, every value that
// the dtype has may be taken, and there are no scales.
#pragma once

#include <memory>

#include "base/dtype.h"
#include "grid/grid.h"

namespace adze {

/// dtype: f16 or bf16; throws bad_recipe for another. Its name is the dtype's, as that of dense tensors.
std::shared_ptr<const Grid> make_float_grid(DType dtype);

}  // namespace adze
