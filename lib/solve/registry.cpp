#include <array>

#include "solve/gptq/gptq.h"
#include "solve/gqsa/gqsa.h"
#include "solve/magnitude/magnitude.h"
#include "solve/nowag/nowag.h"
#include "solve/obq/obq.h"
#include "solve/obr/obr.h"
#include "solve/rtn/rtn.h"
#include "solve/solver.h"
#include "solve/sparsegpt/sparsegpt.h"
#include "solve/wanda/wanda.h"

namespace adze {
namespace {

constexpr PatternSet kElements = pattern_bit(PatternKind::unstructured) | pattern_bit(PatternKind::n_of_m);

constexpr std::array kSolvers{
    SolverInfo{"rtn", "round to nearest, scales by weighted search or by the extremes", 0, false, &configure_rtn},
    SolverInfo{"gptq", "second-order error feedback, column by column (GPTQ)", 0, false, &configure_gptq},
    SolverInfo{"magnitude", "prune the smallest weights", kAnyPattern, true, &configure_magnitude},
    SolverInfo{"wanda", "prune by |w| times the norm of the input, row by row (Wanda)", kAnyPattern, true,
               &configure_wanda},
    SolverInfo{"nowag-p", "prune by normalised weights times the norm of the input (NoWag-P)", kAnyPattern, true,
               &configure_nowag},
    SolverInfo{"sparsegpt", "prune, and round, in one second-order pass over the columns (SparseGPT)", kElements, true,
               &configure_sparsegpt},
    SolverInfo{"obr", "prune and round in one solve, what is lost restored in closed form (OBR)", kAnyPattern, true,
               &configure_obr},
    SolverInfo{"obq", "prune and round in exact greedy order, row by row (ExactOBS)",
               kElements | pattern_bit(PatternKind::blocks), false, &configure_obq},
    SolverInfo{"gqsa", "prune groups of columns that share a scale, and round (GQSA)", pattern_bit(PatternKind::blocks),
               true, &configure_gqsa},
};

}  // namespace

std::span<const SolverInfo> solvers() { return kSolvers; }

const SolverInfo* find_solver(std::string_view name) {
  for (const SolverInfo& info : kSolvers)
    if (info.name == name) return &info;
  return nullptr;
}

}  // namespace adze
