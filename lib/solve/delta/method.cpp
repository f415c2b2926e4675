#include "solve/delta/method.h"

#include <fmt/format.h>

#include "grid/delta/dropped_tensor.h"
#include "solve/common.h"
#include "solve/delta/delta.h"

namespace adze {
namespace {

Problem as_problem(const DeltaProblem& problem, std::shared_ptr<const Grid> grid) {
  Problem made;
  made.weights = problem.deltas;
  made.hessian = problem.hessian;
  made.grid = std::move(grid);
  return made;
}

/// make(index): the stored tensor of a delta.
template <class Make>
std::vector<Solution> solutions_of(const DeltaProblem& problem, Make&& make) {
  const Problem checked = as_problem(problem, nullptr);
  check_problem(checked);
  std::vector<Solution> solutions;
  for (std::size_t i = 0; i < problem.deltas.size(); ++i) solutions.push_back(finish_solution(checked, i, make(i), {}));
  return solutions;
}

class SignMethod final : public DeltaMethod {
 public:
  SignMethod(SignScope scope, bool best) : scope_(scope), best_(best) {}

  std::string description() const override {
    return fmt::format("{} scale={}", sign_format(scope_), best_ ? "best" : "mean");
  }
  std::string format(const std::string&, Shape) const override { return sign_format(scope_); }

  std::vector<Solution> solve(const DeltaProblem& problem) const override {
    return solutions_of(problem, [&](std::size_t i) {
      const ConstViewF delta = problem.deltas[i];
      return std::make_shared<SignTensor>(best_ ? best_sign_delta(delta, problem.hessian, scope_)
                                                : mean_sign_delta(delta, scope_));
    });
  }

 private:
  SignScope scope_;
  bool best_;
};

class DropMethod final : public DeltaMethod {
 public:
  DropMethod(double probability, std::uint64_t seed, bool best) : any_(probability, seed, "delta"), best_(best) {}

  std::string description() const override {
    return fmt::format("dropped {} factor={}", any_.text(), best_ ? "best" : "unbiased");
  }
  std::string format(const std::string& module, Shape shape) const override {
    const DropMask mask = mask_of(module);
    return dropped_format({mask, mask.kept(shape)});
  }
  double drop_probability() const override { return any_.probability(); }

  std::vector<Solution> solve(const DeltaProblem& problem) const override {
    return solutions_of(problem, [&](std::size_t i) {
      return std::make_shared<DroppedTensor>(
          drop_delta(problem.deltas[i], problem.hessian, mask_of(problem.modules[i]), best_));
    });
  }

 private:
  DropMask mask_of(const std::string& module) const { return {any_.probability(), any_.seed(), module}; }

  DropMask any_;  ///< what all masks have in common
  bool best_;
};

class SolverMethod final : public DeltaMethod {
 public:
  SolverMethod(std::shared_ptr<const Solver> solver, std::shared_ptr<const Grid> grid)
      : solver_(std::move(solver)), grid_(std::move(grid)) {}

  std::string description() const override { return fmt::format("{} grid={}", solver_->description(), grid_->name()); }
  std::string format(const std::string&, Shape shape) const override { return solver_->format({shape, *grid_}); }
  std::optional<std::string> cannot_make(Shape shape) const override { return solver_->cannot_make({shape, *grid_}); }

  std::vector<Solution> solve(const DeltaProblem& problem) const override {
    return solver_->solve(as_problem(problem, grid_));
  }

 private:
  std::shared_ptr<const Solver> solver_;
  std::shared_ptr<const Grid> grid_;
};

}  // namespace

std::unique_ptr<DeltaMethod> sign_delta_method(SignScope scope, bool best) {
  return std::make_unique<SignMethod>(scope, best);
}

std::unique_ptr<DeltaMethod> drop_delta_method(double probability, std::uint64_t seed, bool best) {
  return std::make_unique<DropMethod>(probability, seed, best);
}

std::unique_ptr<DeltaMethod> solver_delta_method(std::shared_ptr<const Solver> solver,
                                                 std::shared_ptr<const Grid> grid) {
  return std::make_unique<SolverMethod>(std::move(solver), std::move(grid));
}

}  // namespace adze
