#include "solve/shared/shared_basis.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/checked.h"
#include "base/parallel.h"
#include "grid/factors/product_tensor.h"
#include "grid/factors/shared_tensor.h"
#include "solve/common.h"
#include "solve/factors/shared_right.h"
#include "solve/factors/stored_factors.h"

namespace adze {
namespace {

struct SharedBasisOptions {
  FactorBudget budget;
  FactorForm form = FactorForm::plain;
  int sweeps = 10;
};

MatrixD moment_or_identity(ConstViewD h, std::size_t inputs) {
  MatrixD moment(inputs, inputs);
  for (std::size_t i = 0; i < inputs; ++i) {
    if (h.rows() > 0) std::ranges::copy(h.row(i), moment.row(i).begin());
    if (h.rows() == 0) moment(i, i) = 1;
  }
  return moment;
}

class SharedBasisSolver final : public Solver {
 public:
  explicit SharedBasisSolver(const SharedBasisOptions& options) : options_(options) {}

  std::string description() const override {
    return fmt::format("shared-basis {} form={} sweeps={}", options_.budget.in_words(), name_of(options_.form),
                       options_.sweeps);
  }

  bool pairs_blocks() const override { return true; }
  bool couples_rows() const override { return true; }

  std::string format(const Target& target) const override {
    return factor_format(rank_of(target).rank, options_.form, target.grid, target.sharing.owner);
  }

  std::optional<std::string> cannot_make(const Target& target) const override {
    const RankChoice choice = rank_of(target);
    if (choice.trouble || choice.rank > 0) return choice.trouble;
    return target.grid.cannot_hold(target.shape.cols);
  }

  std::string remark(const Target& target) const override {
    if (rank_of(target).rank == 0)
      return fmt::format("factors would take no less than the matrix: stored whole, as {}", target.grid.name());
    return target.sharing.paired ? "" : "no neighbouring block takes the same scheme: factors of its own";
  }

  /// In double: of both blocks the weights, W H and H; their stack, its Gram matrix, eigenvectors and workspace; the
  /// simultaneous diagonalisation.
  SolverScratch scratch(const ProblemSize& size) const override {
    const std::uint64_t moment = std::uint64_t{size.inputs} * size.inputs;
    const std::uint64_t tensors = divide_up(size.weights, size.largest);
    const std::uint64_t side = std::min<std::uint64_t>(2 * size.largest / size.inputs, size.inputs);
    return {0, (2 * moment + tensors * (6 * moment + 10 * size.largest + 4 * side * side)) * sizeof(double)};
  }

  std::vector<Solution> solve(const Problem& problem) const override {
    check_problem(problem);
    SolveReport report;
    report.dead_inputs = dead_inputs(problem);
    std::vector<Solution> solutions(problem.weights.size());
    parallel_for(solutions.size(), [&](std::size_t i) { solutions[i] = solve_one(problem, i, report); });
    return solutions;
  }

 private:
  RankChoice rank_of(const Target& target) const {
    return choose_rank(options_.budget, options_.form, target, target.sharing.paired ? 2 : 1);
  }

  Solution solve_one(const Problem& problem, std::size_t index, SolveReport report) const {
    const ConstViewF original = problem.weights[index];
    const Partner* const partner = problem.partner;
    const BlockSharing sharing = partner == nullptr ? BlockSharing{} : partner->sharing[index];
    const std::size_t rank = rank_of({original.shape(), *problem.grid, nullptr, sharing}).rank;
    if (rank == 0) {
      auto whole = store_matrix(original, problem.hessian, problem.grid, report.fallback);
      return finish_solution(problem, index, std::move(whole), std::move(report));
    }
    const MatrixD weights = to_double(original);
    const MatrixD h = moment_or_identity(problem.hessian, problem.inputs());
    MatrixD right, metric = h;
    if (sharing.paired) {
      SharingLayer mine{weights, h};
      SharingLayer theirs{to_double(partner->weights[index]), moment_or_identity(partner->hessian, problem.inputs())};
      // Both blocks of a pair compute the factor, from the same numbers in the same order: the same bits.
      std::array<SharingLayer, 2> pair{std::move(mine), std::move(theirs)};
      if (!sharing.owner.empty()) std::swap(pair[0], pair[1]);
      for (std::size_t i = 0; i < h.values().size(); ++i)
        metric.values()[i] = pair[0].h.values()[i] + pair[1].h.values()[i];
      right = shared_right(std::move(pair), rank, options_.sweeps).right;
    } else {
      right = leading_factors(weights, output_spectrum(weights, h, moment_root(h), rank)).right;
    }
    auto stored = store_right(right, rank, metric, options_.form, problem.grid, report.fallback);
    auto left = store_left(weights, h, *stored, problem.grid, report.fallback);
    if (!sharing.owner.empty()) stored = std::make_shared<SharedTensor>(std::string(sharing.owner), stored);
    return finish_solution(problem, index, std::make_shared<ProductTensor>(left, stored), std::move(report));
  }

  SharedBasisOptions options_;
};

}  // namespace

std::unique_ptr<Solver> configure_shared_basis(MapReader& options) {
  SharedBasisOptions read;
  read.budget = read_budget(options);
  read.form = read_factor_form(options);
  read.sweeps = static_cast<int>(options.optional("sweeps").count(0, 1000).value_or(10));
  return std::make_unique<SharedBasisSolver>(read);
}

}  // namespace adze
