// Low rank with one right factor for each pair of neighbouring blocks (solve/factors/shared_right.h): blocks 0 and 1
// share, 2 and 3, and so on; the first of each stores the factor. At equal numbers the rank is larger: a block takes
// r (m + n / 2) numbers instead of r (m + n). Where there is no neighbour the factors are a block's own.
#pragma once

#include <memory>

#include "solve/solver.h"

namespace adze {

/// Options: keep or rank, align, form (plain, pivoted), sweeps.
std::unique_ptr<Solver> configure_shared_basis(MapReader& options);

}  // namespace adze
