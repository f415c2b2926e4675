// Low rank by truncated singular value decomposition: plain, weighed by the inputs' size (ASVD, arXiv 2312.05821), or
// in the norm of H, which is the optimum of SVD-LLM (arXiv 2403.07378) without its inverse (specification: low-rank,
// sections 0.2 to 4).
#pragma once

#include <memory>

#include "solve/solver.h"

namespace adze {

/// Options: keep or rank, align, metric (hessian, diagonal, none), alpha, form (plain, pivoted), balanced, shift.
std::unique_ptr<Solver> configure_svd(MapReader& options);

}  // namespace adze
