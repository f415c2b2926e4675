#include "solve/residual/residual.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "grid/factors/product_tensor.h"
#include "grid/factors/sum_tensor.h"
#include "grid/float_grid.h"
#include "linalg/gemm.h"
#include "linalg/inverse.h"
#include "solve/common.h"
#include "solve/factors/metric.h"
#include "solve/factors/stored_factors.h"

namespace adze {
namespace {

using Part = std::shared_ptr<const CompressedTensor>;

struct Options {
  FactorBudget budget;
  std::shared_ptr<const Grid> factors;  ///< the grid of L and R
  int iterations = 5;                   ///< 0: the base first, and its residual once
  bool downdate = true;
  FactorMetric metric;
  double shift = 1;
  /// By whether there is a pattern; the same where a recipe names one.
  const SolverInfo* base_info[2] = {};
  std::shared_ptr<const Solver> base[2];
};

MatrixF difference(ConstViewF a, ConstViewF b) {
  MatrixF result(a.shape());
  for (std::size_t r = 0; r < a.rows(); ++r)
    for (std::size_t c = 0; c < a.cols(); ++c) result(r, c) = a(r, c) - b(r, c);
  return result;
}

/// H without what a correction with these right factors fits again: H - (R H)^T (R H R^T)^-1 R H (specification 16.2).
MatrixD downdated(ConstViewD h, ConstViewD right) {
  const MatrixD seen = product_nn(right, h);  // [r x n]
  MatrixD moment = product_nt(seen, right);
  double mean = 0;
  for (std::size_t i = 0; i < moment.rows(); ++i) mean += moment(i, i) / static_cast<double>(moment.rows());
  for (std::size_t i = 0; i < moment.rows(); ++i) moment(i, i) += 1e-9 * mean;
  MatrixD rest(h.shape());
  for (std::size_t r = 0; r < h.rows(); ++r) std::ranges::copy(h.row(r), rest.row(r).begin());
  if (mean == 0) return rest;  // a correction of nothing
  MatrixD solved = transposed(seen);
  if (!solve_right(moment, solved)) fail(ErrorKind::internal, "the moment of a correction cannot be factored");
  const MatrixD fitted = product_nn(solved, seen);
  for (std::size_t r = 0; r < rest.rows(); ++r)
    for (std::size_t c = 0; c < rest.cols(); ++c) rest(r, c) -= 0.5 * (fitted(r, c) + fitted(c, r));
  for (std::size_t r = 0; r < rest.rows(); ++r) rest(r, r) = std::max(rest(r, r), 1e-6 * h(r, r));
  return rest;
}

class ResidualSolver final : public Solver {
 public:
  explicit ResidualSolver(Options options) : options_(std::move(options)) {}

  std::string description() const override {
    return fmt::format("lowrank-residual {} factors='{}' iterations={} downdate={} {} shift={} base=({})",
                       options_.budget.in_words(), options_.factors->name(), options_.iterations, options_.downdate,
                       options_.metric.in_words(), options_.shift,
                       options_.base[0] == options_.base[1]
                           ? options_.base[0]->description()
                           : options_.base[0]->description() + " | " + options_.base[1]->description());
  }

  bool wants_reference() const override { return options_.shift > 0; }
  bool couples_rows() const override { return true; }

  std::string format(const Target& target) const override {
    const std::string of_base = base(target.pattern != nullptr).format(target);
    const std::size_t rank = rank_of(target.shape).rank;
    return rank == 0 ? of_base : sum_format({of_base, factor_format(rank, FactorForm::plain, *options_.factors)});
  }

  std::optional<std::string> cannot_make(const Target& target) const override {
    const bool sparse = target.pattern != nullptr;
    const SolverInfo& info = *options_.base_info[sparse];
    if (sparse && (info.patterns & pattern_bit(target.pattern->kind())) == 0)
      return fmt::format("base {} makes no sparsity of {}", info.name, target.pattern->text());
    if (!sparse && info.needs_pattern)
      return fmt::format("base {} prunes: give the scheme a sparsity, such as 50% or 2:4", info.name);
    if (auto reason = base(sparse).cannot_make(target)) return reason;
    return rank_of(target.shape).trouble;
  }

  std::string remark(const Target& target) const override {
    if (rank_of(target.shape).rank > 0) return "";
    return "a correction would take no less than the matrix: stored without one";
  }

  /// Beside what the base takes: of one tensor the residual and the correction as floats, twice in double, Gram matrix,
  /// eigenvectors and workspace; H down-dated.
  SolverScratch scratch(const ProblemSize& size) const override {
    const SolverScratch plain = options_.base[0]->scratch(size), sparse = options_.base[1]->scratch(size);
    const std::uint64_t moment = std::uint64_t{size.inputs} * size.inputs * sizeof(double);
    const std::uint64_t targets = options_.shift > 0 && size.has_cross ? size.weights * sizeof(float) : 0;
    const std::uint64_t side = std::min<std::uint64_t>(size.largest / size.inputs, size.inputs);
    const std::uint64_t own = 3 * moment + targets + 4 * size.largest * sizeof(float) +
                              2 * size.largest * sizeof(double) + 4 * side * side * sizeof(double);
    return {std::max(plain.factoring, sparse.factoring) + own, std::max(plain.solving, sparse.solving) + own};
  }

  /// The base's, for every time that it is made.
  double extra_operations(const ProblemSize& size) const override {
    return (options_.iterations + 1) *
           std::max(options_.base[0]->extra_operations(size), options_.base[1]->extra_operations(size));
  }

  std::vector<Solution> solve(const Problem& problem) const override {
    check_problem(problem);
    SolveReport report;
    report.dead_inputs = dead_inputs(problem);
    std::vector<MatrixF> targets;
    const Problem shifted = shifted_problem(problem, options_.shift, targets, report.fallback);
    const MatrixD metric = options_.metric.moment(problem);
    const bool wants_root = std::ranges::any_of(problem.weights, [&](ConstViewF w) {
      return w.rows() > w.cols() && !sketch_pays(w.shape(), rank_of(w.shape()).rank);
    });
    const MatrixD root = wants_root ? moment_root(metric) : MatrixD();
    std::vector<Solution> solutions;
    for (std::size_t i = 0; i < problem.weights.size(); ++i)
      solutions.push_back(solve_one(shifted, i, metric, root, report));
    return solutions;
  }

 private:
  const Solver& base(bool sparse) const { return *options_.base[sparse]; }
  /// 0: no correction.
  RankChoice rank_of(Shape shape) const {
    return choose_rank(options_.budget, FactorForm::plain, {shape, *options_.factors});
  }

  /// The base of W - L R; its own loss means nothing, its remarks do.
  Solution solve_base(const Problem& problem, ConstViewF weights, ConstViewD h) const {
    Problem one{{weights}, h, problem.grid, problem.pattern};
    return std::move(base(problem.pattern.has_value()).solve(one).front());
  }

  Part correct(ConstViewF residual, const MatrixD& metric, const MatrixD& root, std::string& remarks) const {
    const MatrixD wanted = to_double(residual);
    const std::size_t rank = rank_of(residual.shape()).rank;
    const Factors factors = sketch_pays(residual.shape(), rank)
                                ? sketched_factors(wanted, metric, rank)
                                : leading_factors(wanted, output_spectrum(wanted, metric, root, rank));
    return store_factors(wanted, metric, factors, rank, FactorForm::plain, options_.factors, remarks);
  }

  Solution solve_one(const Problem& problem, std::size_t index, const MatrixD& metric, const MatrixD& root,
                     SolveReport report) const {
    const ConstViewF weights = problem.weights[index];
    const bool corrects = rank_of(weights.shape()).rank > 0;
    Solution base_alone;
    if (!corrects || options_.iterations == 0) base_alone = solve_base(problem, weights, problem.hessian);
    if (!corrects) return finish(problem, index, base_alone.tensor, base_alone.report, report);
    if (options_.iterations == 0) {
      const Part low = correct(difference(weights, base_alone.tensor->decode()), metric, root, report.fallback);
      return finish(problem, index, std::make_shared<SumTensor>(base_alone.tensor, low), base_alone.report, report);
    }
    Best best;
    Part low = correct(weights, metric, root, report.fallback);
    for (int i = 0; i < options_.iterations; ++i) {
      const MatrixD h = moment_for_base(problem, *low);
      const Solution quantized = solve_base(problem, difference(weights, low->decode()), h);
      low = correct(difference(weights, quantized.tensor->decode()), metric, root, report.fallback);
      best.offer(problem, index, quantized, low);
    }
    // Factors that were rounded are made up for by the base, which must then be right in every direction.
    best.offer(problem, index, solve_base(problem, difference(weights, low->decode()), problem.hessian), low);
    return finish(problem, index, best.tensor, best.report, report);
  }

  /// What the base is judged in; a correction follows, so directions that it will fit need not be right.
  MatrixD moment_for_base(const Problem& problem, const CompressedTensor& low) const {
    if (options_.downdate && problem.has_hessian())
      return downdated(problem.hessian, to_double(dynamic_cast<const ProductTensor&>(low).right().decode()));
    MatrixD h(problem.hessian.shape());
    for (std::size_t r = 0; r < h.rows(); ++r) std::ranges::copy(problem.hessian.row(r), h.row(r).begin());
    return h;
  }

  struct Best {
    Part tensor;
    SolveReport report;
    double loss = 0;

    void offer(const Problem& problem, std::size_t index, const Solution& quantized, const Part& low) {
      const Part sum = std::make_shared<SumTensor>(quantized.tensor, low);
      const double of_sum = finish_solution(problem, index, sum, {}).report.loss;
      if (tensor && of_sum >= loss) return;
      tensor = sum;
      report = quantized.report;
      loss = of_sum;
    }
  };

  static Solution finish(const Problem& problem, std::size_t index, Part tensor, const SolveReport& of_base,
                         SolveReport report) {
    report.damping = of_base.damping;
    if (!of_base.fallback.empty()) add_remark(report.fallback, of_base.fallback);
    return finish_solution(problem, index, std::move(tensor), std::move(report));
  }

  Options options_;
};

/// The base's name, and the solver made with the same options.
void read_base(MapReader& options, Options& read) {
  const Value named = options.optional("base");
  const auto name = named.word();
  for (const bool sparse : {false, true}) {
    const std::string wanted = name ? *name : sparse ? "sparsegpt" : "gptq";
    const SolverInfo* const info = find_solver(wanted);
    if (info == nullptr || info->factors) {
      if (!sparse) named.complain("must be a solver that makes codes of a grid: gptq, rtn, sparsegpt, obr ...");
      read.base_info[sparse] = find_solver("rtn");
      read.base[sparse] = find_solver("rtn")->configure(options);
      continue;
    }
    read.base_info[sparse] = info;
    if (sparse && read.base_info[0] == info)
      read.base[1] = read.base[0];
    else
      read.base[sparse] = info->configure(options);
  }
}

std::shared_ptr<const Grid> read_factor_grid(MapReader& options) {
  const Value name = options.optional("factors");
  const Value group = options.optional("factor_group");
  const std::string wanted = name.word().value_or("f16");
  const std::size_t cols = group.count(1, 65536).value_or(16);
  if (wanted == "f16" || wanted == "bf16") {
    if (group.present()) group.complain("is of factors on an integer grid");
    return make_float_grid(*dtype_from_name(wanted));
  }
  try {
    if (!wanted.starts_with("int")) fail(ErrorKind::bad_recipe, "unknown grid '{}'", wanted);
    return make_grid({wanted, cols, "group", std::nullopt, "f16"});
  } catch (const Error& error) {
    name.complain(fmt::format("must be f16, bf16 or int2 to int8 ({})", error.message()));
    return make_float_grid(DType::f16);
  }
}

}  // namespace

std::unique_ptr<Solver> configure_residual(MapReader& options) {
  Options read;
  read.budget = read_budget(options, FactorBudget{0, 32, 8});
  read.factors = read_factor_grid(options);
  read.iterations = static_cast<int>(options.optional("iterations").integer(0, 100).value_or(read.iterations));
  read.downdate = options.optional("downdate").boolean().value_or(read.downdate);
  read.metric = read_factor_metric(options);
  read.shift = options.optional("shift").real(0, 1).value_or(read.shift);
  read_base(options, read);
  return std::make_unique<ResidualSolver>(std::move(read));
}

}  // namespace adze
