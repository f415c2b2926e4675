// A quantized (or sparse and quantized) base and what a low rank adds to it: What = Q + L R (specification: low-rank,
// section 16). For a given Q the best L R is that of the residual in the norm of H (QERA, arXiv 2410.06040); for a
// given L R the base solver works on W - L R. Alternating, low rank first (CALDERA, arXiv 2405.18886), with the
// directions that the low rank will fit again taken out of the base's H; on a sparse base it is SLiM's adapter (arXiv
// 2410.09615).
#pragma once

#include <memory>

#include "solve/solver.h"

namespace adze {

/// Options: rank or keep, align, factors (f16, bf16, int4 ... int8), factor_group, base (any solver without factors),
/// iterations, downdate, metric (hessian, diagonal, none), shift; and those of the base.
std::unique_ptr<Solver> configure_residual(MapReader& options);

}  // namespace adze
