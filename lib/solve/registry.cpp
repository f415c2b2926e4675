#include <array>

#include "solve/gptq/gptq.h"
#include "solve/rtn/rtn.h"
#include "solve/solver.h"

namespace adze {
namespace {

constexpr std::array kSolvers{
    SolverInfo{"rtn", "round to nearest, scales by weighted search or by the extremes", &configure_rtn},
    SolverInfo{"gptq", "second-order error feedback, column by column (GPTQ)", &configure_gptq},
};

}  // namespace

std::span<const SolverInfo> solvers() { return kSolvers; }

const SolverInfo* find_solver(std::string_view name) {
  for (const SolverInfo& info : kSolvers)
    if (info.name == name) return &info;
  return nullptr;
}

}  // namespace adze
