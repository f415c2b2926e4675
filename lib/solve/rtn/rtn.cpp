#include "solve/rtn/rtn.h"

#include <fmt/format.h>

#include "base/parallel.h"
#include "solve/common.h"

namespace adze {
namespace {

class RtnSolver final : public Solver {
 public:
  explicit RtnSolver(ScaleRule rule) : rule_(rule) {}

  std::string description() const override { return fmt::format("rtn scale_rule={}", name_of(rule_)); }

  bool needs_inputs() const override { return false; }

  SolverScratch scratch(const ProblemSize&) const override { return {}; }

  std::vector<Solution> solve(const Problem& problem) const override {
    check_problem(problem);
    std::vector<Solution> solutions;
    for (std::size_t i = 0; i < problem.weights.size(); ++i) solutions.push_back(solve_rtn(problem, i, rule_, {}));
    return solutions;
  }

 private:
  ScaleRule rule_;
};

}  // namespace

Solution solve_rtn(const Problem& problem, std::size_t index, ScaleRule rule, SolveReport report) {
  const ConstViewF weights = problem.weights[index];
  Encoding encoding(problem.grid, weights.shape());
  encoding.fit_all(weights, input_importance(problem), rule);
  parallel_for(weights.rows(), [&](std::size_t r) { encoding.round_row(r, weights.row(r)); });
  return finish_solution(problem, index, encoding, std::move(report));
}

std::unique_ptr<Solver> configure_rtn(MapReader& options) {
  return std::make_unique<RtnSolver>(read_scale_rule(options));
}

}  // namespace adze
