#include "solve/mpo/mpo.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/parallel.h"
#include "solve/common.h"
#include "solve/factors/stored_factors.h"

namespace adze {
namespace {

struct Options {
  double keep = 1;
  std::size_t cores = 2;
  int sweeps = 4;
  double shift = 1;
};

std::uint64_t numbers(const TrainShape& train) {
  std::uint64_t count = 0;
  for (std::size_t k = 0; k < train.cores(); ++k) count += train.core(k).count();
  return count;
}

/// Digits of a matrix, and bonds as large as `bond` and use allow.
TrainShape train_with_bond(const TrainShape& digits, std::size_t bond) {
  TrainShape train = digits;
  for (std::size_t k = 0; k + 1 < train.cores(); ++k) train.bonds[k] = std::min(bond, train.most_bond(k));
  return train;
}

class MpoSolver final : public Solver {
 public:
  explicit MpoSolver(const Options& options) : options_(options) {}

  std::string description() const override {
    return fmt::format("mpo keep={} cores={} sweeps={} shift={}", options_.keep, options_.cores, options_.sweeps,
                       options_.shift);
  }

  bool wants_reference() const override { return options_.shift > 0; }
  bool needs_inputs() const override { return options_.sweeps > 0; }
  bool couples_rows() const override { return true; }

  std::string format(const Target& target) const override {
    const std::optional<TrainShape> train = train_of(target.shape);
    return train ? train_format({*train, target.grid.name()}) : target.grid.name();
  }

  std::optional<std::string> cannot_make(const Target& target) const override {
    if (const auto train = train_of(target.shape)) {
      if (train->bonds.front() == 0)
        return fmt::format("keep {:g}% is less than a train of bond 1 takes, {} numbers; keep more",
                           100 * options_.keep, numbers(train_with_bond(*train, 1)));
      for (std::size_t k = 0; k < train->cores(); ++k)
        if (auto reason = target.grid.cannot_hold(train->core(k).cols)) return fmt::format("core {}: {}", k, *reason);
      return std::nullopt;
    }
    return target.grid.cannot_hold(target.shape.cols);
  }

  std::string remark(const Target& target) const override {
    if (train_of(target.shape)) return "";
    return fmt::format("a train would take no less than the matrix: stored whole, as {}", target.grid.name());
  }

  /// In double, of every tensor: weights, W H, and six of the matrix while a core is fitted; cores several times over.
  SolverScratch scratch(const ProblemSize& size) const override {
    const std::uint64_t targets = options_.shift > 0 && size.has_cross ? size.weights * sizeof(float) : 0;
    return {targets, targets + 12 * size.weights * sizeof(double)};
  }

  std::vector<Solution> solve(const Problem& problem) const override {
    check_problem(problem);
    SolveReport report;
    report.dead_inputs = dead_inputs(problem);
    std::vector<MatrixF> targets;
    const Problem shifted = shifted_problem(problem, options_.shift, targets, report.fallback);
    std::vector<Solution> solutions(problem.weights.size());
    parallel_for(solutions.size(), [&](std::size_t i) { solutions[i] = solve_one(shifted, i, report); });
    return solutions;
  }

 private:
  /// The largest bond within the budget; bonds of 0 where none is, nothing where the matrix would take no more.
  std::optional<TrainShape> train_of(Shape shape) const {
    const TrainShape digits{digits_of(shape.rows, options_.cores), digits_of(shape.cols, options_.cores),
                            std::vector<std::size_t>(options_.cores - 1)};
    const double budget = options_.keep * static_cast<double>(shape.count());
    std::size_t most = 0;
    for (std::size_t k = 0; k + 1 < options_.cores; ++k) most = std::max(most, digits.most_bond(k));
    std::size_t bond = 0;
    while (bond < most && static_cast<double>(numbers(train_with_bond(digits, bond + 1))) <= budget) ++bond;
    if (bond == most || options_.keep >= 1) return std::nullopt;
    return bond == 0 ? digits : train_with_bond(digits, bond);
  }

  Solution solve_one(const Problem& problem, std::size_t index, SolveReport report) const {
    const ConstViewF original = problem.weights[index];
    const std::optional<TrainShape> train = train_of(original.shape());
    if (!train) {
      auto whole = store_matrix(original, problem.hessian, problem.grid, report.fallback);
      return finish_solution(problem, index, std::move(whole), std::move(report));
    }
    const MatrixD weights = to_double(original);
    TrainCores cores = train_by_svd(weights, *train);
    fit_cores(weights, problem.hessian, *train, options_.sweeps, cores);
    std::vector<std::shared_ptr<const CompressedTensor>> stored;
    for (const MatrixD& core : cores)
      stored.push_back(store_matrix(to_single(core), {}, problem.grid, report.fallback));
    return finish_solution(problem, index, std::make_shared<TrainTensor>(*train, std::move(stored)), std::move(report));
  }

  Options options_;
};

}  // namespace

std::unique_ptr<Solver> configure_mpo(MapReader& options) {
  Options read;
  const Value keep = options.required("keep");
  read.keep = keep.percent().value_or(read.keep);
  if (read.keep <= 0) keep.complain("must be more than 0%: the part of the layer's numbers that stays");
  read.cores = options.optional("cores").count(2, 8).value_or(read.cores);
  read.sweeps = static_cast<int>(options.optional("sweeps").integer(0, 1000).value_or(read.sweeps));
  read.shift = options.optional("shift").real(0, 1).value_or(read.shift);
  return std::make_unique<MpoSolver>(read);
}

}  // namespace adze
