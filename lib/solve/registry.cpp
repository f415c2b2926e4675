#include <array>

#include "grid/sparse/sparse_tensor.h"
#include "solve/compot/compot.h"
#include "solve/gptq/gptq.h"
#include "solve/gqsa/gqsa.h"
#include "solve/magnitude/magnitude.h"
#include "solve/mixed_rows/mixed_rows.h"
#include "solve/mpo/mpo.h"
#include "solve/nested/nested.h"
#include "solve/nowag/nowag.h"
#include "solve/obq/obq.h"
#include "solve/obr/obr.h"
#include "solve/residual/residual.h"
#include "solve/rtn/rtn.h"
#include "solve/shared/shared_basis.h"
#include "solve/solver.h"
#include "solve/sparsegpt/sparsegpt.h"
#include "solve/svd/svd.h"
#include "solve/wanda/wanda.h"

namespace adze {
namespace {

constexpr PatternSet kElements = pattern_bit(PatternKind::unstructured) | pattern_bit(PatternKind::n_of_m);

constexpr std::array kSolvers{
    SolverInfo{"rtn", "round to nearest, scales by weighted search or by the extremes", 0, false, false, false,
               &configure_rtn},
    SolverInfo{"gptq", "second-order error feedback, column by column (GPTQ)", 0, false, false, false, &configure_gptq},
    SolverInfo{"mixed-rows", "every row its own width, 0 included, in the bytes of the grid (QVLA)", 0, false, false,
               false, &configure_mixed_rows},
    SolverInfo{"nested", "codes whose leading bits are smaller models, with the same scales (Matryoshka)", 0, false,
               false, false, &configure_nested},
    SolverInfo{"magnitude", "prune the smallest weights", kAnyPattern, true, false, false, &configure_magnitude},
    SolverInfo{"wanda", "prune by |w| times the norm of the input, row by row (Wanda)", kAnyPattern, true, false, false,
               &configure_wanda},
    SolverInfo{"nowag-p", "prune by normalised weights times the norm of the input (NoWag-P)", kAnyPattern, true, false,
               false, &configure_nowag},
    SolverInfo{"sparsegpt", "prune, and round, in one second-order pass over the columns (SparseGPT)", kElements, true,
               false, false, &configure_sparsegpt},
    SolverInfo{"obr", "prune and round in one solve, what is lost restored in closed form (OBR)", kAnyPattern, true,
               false, false, &configure_obr},
    SolverInfo{"obq", "prune and round in exact greedy order, row by row (ExactOBS)",
               kElements | pattern_bit(PatternKind::blocks), false, false, false, &configure_obq},
    SolverInfo{"gqsa", "prune groups of columns that share a scale, and round (GQSA)", pattern_bit(PatternKind::blocks),
               true, false, false, &configure_gqsa},
    SolverInfo{"svd", "low rank: the leading directions of the output in the norm of H (SVD-LLM)", 0, false, true, true,
               &configure_svd},
    SolverInfo{"shared-basis", "low rank with one right factor for two neighbouring blocks (Basis Sharing, GeoPair)", 0,
               false, true, true, &configure_shared_basis},
    SolverInfo{"compot", "an orthogonal dictionary and sparse coefficients, by closed-form alternation (COMPOT)", 0,
               false, true, true, &configure_compot},
    SolverInfo{"rocket", "the same by a single pass from the leading directions (ROCKET)", 0, false, true, true,
               &configure_rocket},
    SolverInfo{"mpo", "a tensor train: cores by truncated SVD, then fitted in the norm of H (CompactifAI)", 0, false,
               true, true, &configure_mpo},
    SolverInfo{"lowrank-residual", "a quantized or pruned base, and a low rank that corrects it (QERA, CALDERA, SLiM)",
               kAnyPattern, false, true, false, &configure_residual},
};

}  // namespace

std::string Solver::format(const Target& target) const {
  return target.pattern != nullptr ? sparse_format(target.grid, *target.pattern) : target.grid.name();
}

std::optional<std::string> Solver::cannot_make(const Target& target) const {
  if (auto reason = target.grid.cannot_hold(target.shape.cols)) return reason;
  return target.pattern != nullptr ? target.pattern->cannot_hold(target.shape.cols) : std::nullopt;
}

std::span<const SolverInfo> solvers() { return kSolvers; }

const SolverInfo* find_solver(std::string_view name) {
  for (const SolverInfo& info : kSolvers)
    if (info.name == name) return &info;
  return nullptr;
}

}  // namespace adze
