#include "solve/compot/compot.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/parallel.h"
#include "grid/factors/product_tensor.h"
#include "grid/sparse/sparse_tensor.h"
#include "linalg/gemm.h"
#include "linalg/inverse.h"
#include "solve/common.h"
#include "solve/factors/stored_factors.h"
#include "solve/masks/masked_solver.h"
#include "solve/restore/restore.h"

namespace adze {
namespace {

constexpr std::array kThresholds{Named<bool>{"matrix", false}, Named<bool>{"row", true}};

struct Options {
  double keep = 1;
  double ratio = 2;  ///< atoms to coefficients of a row
  std::size_t align = 8;
  int refit = 2;  ///< rounds of least squares for coefficients and dictionary
  double shift = 1;
  CompotOptions search;
  std::optional<double> importance;  ///< lambda of the single pass, which it says to take instead of the alternation
};

/// How large dictionary and coefficients are; no atoms: the matrix stays whole.
struct Sizes {
  std::size_t atoms = 0;
  std::optional<SparsityPattern> pattern;  ///< of the coefficients
  std::optional<std::string> trouble;
};

/// A^T = (S^T S)^-1 S^T W: the metric cancels (specification 11.3, step 6). [k x n]
MatrixD best_dictionary(ConstViewD weights, ConstViewD coefficients) {
  MatrixD moment = product_tn(coefficients, coefficients);
  double mean = 0;
  for (std::size_t i = 0; i < moment.rows(); ++i) mean += moment(i, i) / static_cast<double>(moment.rows());
  for (std::size_t i = 0; i < moment.rows(); ++i) moment(i, i) += 1e-8 * mean;
  MatrixD wanted = product_tn(weights, coefficients);  // [n x k]
  if (mean == 0) return MatrixD(coefficients.cols(), weights.cols());
  if (!solve_right(moment, wanted)) fail(ErrorKind::internal, "the moment of coefficients cannot be factored");
  return transposed(wanted);
}

/// Coefficients without a mask, and the moment in which those with one are judged: S* = W H A (A^T H A)^-1, A^T H A.
struct CoefficientProblem {
  MatrixF wanted;  ///< [m x k]
  MatrixD moment;  ///< [k x k]
};

CoefficientProblem coefficient_problem(ConstViewD weights, ConstViewD h, ConstViewD atoms) {
  return {to_single(best_left(weights, h, atoms)), product_nt(times_moment(atoms, h), atoms)};
}

/// Least squares for the coefficients on their mask.
MatrixD refitted(const CoefficientProblem& problem, const MatrixD& coefficients, const Mask& mask) {
  constexpr double kDamping = 1e-6;  // of the mean of the diagonal
  MatrixF moment = to_single(problem.moment);
  double mean = 0;
  for (std::size_t i = 0; i < moment.rows(); ++i) mean += problem.moment(i, i) / static_cast<double>(moment.rows());
  for (std::size_t i = 0; i < moment.rows(); ++i) moment(i, i) += static_cast<float>(kDamping * mean);
  return to_double(least_squares(problem.wanted, to_single(coefficients), moment, mask));
}

/// The mask of a pattern's exact number of coefficients, where some of them may be zero by chance.
Mask mask_of_coefficients(const MatrixD& coefficients, std::uint64_t kept) {
  Mask mask = mask_of(to_single(coefficients));
  std::uint64_t missing = kept - (coefficients.shape().count() - mask.zeros());
  for (std::size_t r = 0; r < mask.shape().rows && missing > 0; ++r)
    for (std::size_t c = 0; c < mask.shape().cols && missing > 0; ++c) {
      if (mask.kept(r, c)) continue;
      mask.keep(r, c);
      --missing;
    }
  return mask;
}

class CompotSolver final : public Solver {
 public:
  explicit CompotSolver(const Options& options) : options_(options) {}

  std::string description() const override {
    const std::string search = options_.importance ? fmt::format("importance={}", *options_.importance)
                                                   : fmt::format("iterations={} tolerance={}",
                                                                 options_.search.iterations, options_.search.tolerance);
    return fmt::format("{} keep={} ratio={} align={} {} threshold={} refit={} shift={}",
                       options_.importance ? "rocket" : "compot", options_.keep, options_.ratio, options_.align, search,
                       options_.search.by_row ? "row" : "matrix", options_.refit, options_.shift);
  }

  bool wants_reference() const override { return options_.shift > 0; }
  bool couples_rows() const override { return true; }

  std::string format(const Target& target) const override {
    const Sizes sizes = sizes_of(target);
    if (sizes.atoms == 0) return target.grid.name();
    return product_format({sizes.atoms, sparse_format(target.grid, *sizes.pattern), target.grid.name()});
  }

  std::optional<std::string> cannot_make(const Target& target) const override {
    const Sizes sizes = sizes_of(target);
    if (sizes.atoms > 0 && !target.grid.holds_zero())
      return fmt::format(
          "grid {} has no zero in every group, so coefficients would not stay sparse; integer grids have",
          target.grid.name());
    if (sizes.trouble || sizes.atoms > 0) return sizes.trouble;
    return target.grid.cannot_hold(target.shape.cols);
  }

  std::string remark(const Target& target) const override {
    if (sizes_of(target).atoms > 0) return "";
    return fmt::format("a dictionary would take no less than the matrix: stored whole, as {}", target.grid.name());
  }

  /// In double: H's root; of every tensor the weights, T, three of coefficients and three dictionaries, and k x k
  /// matrices.
  SolverScratch scratch(const ProblemSize& size) const override {
    const std::uint64_t moment = std::uint64_t{size.inputs} * size.inputs * sizeof(double);
    const std::uint64_t targets = options_.shift > 0 && size.has_cross ? size.weights * sizeof(float) : 0;
    const std::uint64_t outputs = size.largest / size.inputs;
    const std::uint64_t side = std::min<std::uint64_t>(outputs, size.inputs);
    const std::uint64_t one = 2 * size.largest + 3 * outputs * side + 3 * size.inputs * side + 5 * side * side;
    return {2 * moment + targets, moment + targets + divide_up(size.weights, size.largest) * one * sizeof(double)};
  }

  std::vector<Solution> solve(const Problem& problem) const override {
    check_problem(problem);
    SolveReport report;
    report.dead_inputs = dead_inputs(problem);
    std::vector<MatrixF> targets;
    const Problem shifted = shifted_problem(problem, options_.shift, targets, report.fallback);
    const MatrixD root = moment_root(problem.hessian);
    std::vector<Solution> solutions(problem.weights.size());
    // Eigenvectors take one thread each: tensors side by side.
    parallel_for(solutions.size(), [&](std::size_t i) { solutions[i] = solve_one(shifted, i, root, report); });
    return solutions;
  }

 private:
  /// n k + (coefficients) + k m / 16 <= keep m n, positions as a bit each (specification 10 and 11.4). Of the numbers
  /// of atoms that alignment and grid allow, the one whose coefficients come nearest to the ratio.
  Sizes sizes_of(const Target& target) const {
    if (options_.keep >= 1) return {};
    const auto m = static_cast<double>(target.shape.rows);
    const auto n = static_cast<double>(target.shape.cols);
    const double budget = options_.keep * m * n;
    const double wished = std::min(budget / (n + m / options_.ratio + m / 16), n);
    Sizes best;
    double nearest = std::numeric_limits<double>::infinity();
    for (std::size_t atoms = options_.align; atoms <= target.shape.cols; atoms += options_.align) {
      const auto k = static_cast<double>(atoms);
      const double coefficients = std::min(budget - n * k - k * m / 16, m * k);
      if (coefficients < m || k > 2 * wished) break;  // less than one a row
      if (target.grid.cannot_hold(atoms) || target.grid.cannot_hold(target.shape.cols)) continue;
      const double distance = std::fabs(std::log(m * k / coefficients / options_.ratio));
      if (distance >= nearest) continue;
      nearest = distance;
      const double sparsity = std::ceil((1 - coefficients / (m * k)) * 1e6) / 1e6;
      best = {atoms, SparsityPattern::unstructured(std::clamp(sparsity, 0.0, 1.0)), std::nullopt};
    }
    if (best.atoms == 0) best.trouble = why_no_atoms(target, wished);
    return best;
  }

  std::string why_no_atoms(const Target& target, double wished) const {
    if (wished < static_cast<double>(options_.align))
      return fmt::format("keep {:g}% leaves {:.3g} atoms, less than align: {}; keep more, or align: 1",
                         100 * options_.keep, wished, options_.align);
    const auto reason = target.grid.cannot_hold(target.shape.cols);
    return fmt::format("no dictionary of about {} atoms suits the grid: {}", static_cast<std::size_t>(wished),
                       reason ? *reason : target.grid.cannot_hold(options_.align).value_or("too few are left"));
  }

  Solution solve_one(const Problem& problem, std::size_t index, const MatrixD& root, SolveReport report) const {
    const ConstViewF original = problem.weights[index];
    const Sizes sizes = sizes_of({original.shape(), *problem.grid});
    if (sizes.atoms == 0) {
      auto whole = store_matrix(original, problem.hessian, problem.grid, report.fallback);
      return finish_solution(problem, index, std::move(whole), std::move(report));
    }
    const MatrixD weights = to_double(original);
    const Shape shape{weights.rows(), sizes.atoms};
    const std::uint64_t kept = shape.count() - sizes.pattern->zeros(shape);
    const MatrixD whitened = times_root(weights, root);
    MatrixD coefficients = find_coefficients(weights, whitened, sizes.atoms, kept);
    const Mask mask = mask_of_coefficients(coefficients, kept);
    MatrixD atoms = best_dictionary(weights, coefficients);
    for (int i = 0; i < options_.refit; ++i) {
      coefficients = refitted(coefficient_problem(weights, problem.hessian, atoms), coefficients, mask);
      atoms = best_dictionary(weights, coefficients);
    }
    const auto stored_atoms = store_matrix(to_single(atoms), problem.hessian, problem.grid, report.fallback);
    const auto stored =
        store_coefficients(weights, problem, to_double(stored_atoms->decode()), mask, *sizes.pattern, report.fallback);
    return finish_solution(problem, index, std::make_shared<ProductTensor>(stored, stored_atoms), std::move(report));
  }

  MatrixD find_coefficients(const MatrixD& weights, const MatrixD& whitened, std::size_t atoms,
                            std::uint64_t kept) const {
    MatrixD start = first_dictionary(whitened, atoms);
    if (options_.importance)
      return single_pass_coefficients(weights, whitened, start, kept, *options_.importance, options_.search.by_row);
    return find_dictionary(whitened, std::move(start), kept, options_.search).coefficients;
  }

  /// On their mask, for the dictionary as it was stored: rounded to nearest where they are floats, with feedback else.
  static std::shared_ptr<const CompressedTensor> store_coefficients(ConstViewD weights, const Problem& problem,
                                                                    const MatrixD& atoms, const Mask& mask,
                                                                    const SparsityPattern& pattern,
                                                                    std::string& remarks) {
    const CoefficientProblem wanted = coefficient_problem(weights, problem.hessian, atoms);
    const bool floats = problem.grid->float_values().has_value();
    MaskedOptions steps;
    steps.damp = floats ? 1e-6 : steps.damp;
    steps.restore = true;
    steps.rounding = floats ? Rounding::nearest : Rounding::shared;
    steps.polish = {floats ? 0 : 3, true};
    const auto fixed = [&mask](ConstViewF, const SparsityPattern&, const InputKnowledge&) { return mask; };
    Problem on_mask{{wanted.wanted}, wanted.moment, problem.grid, pattern};
    const Solution solution = std::move(make_masked_solver({"compot", "", fixed}, steps)->solve(on_mask).front());
    if (!solution.report.fallback.empty()) add_remark(remarks, "coefficients: " + solution.report.fallback);
    return solution.tensor;
  }

  Options options_;
};

Options read_shared_options(MapReader& options) {
  Options read;
  const Value keep = options.required("keep");
  read.keep = keep.percent().value_or(read.keep);
  if (read.keep <= 0) keep.complain("must be more than 0%: the part of the layer's numbers that stays");
  read.ratio = options.optional("ratio").real(1, 16).value_or(read.ratio);
  read.align = options.optional("align").count(1, 1024).value_or(read.align);
  read.refit = static_cast<int>(options.optional("refit").integer(0, 100).value_or(read.refit));
  read.search.by_row = options.optional("threshold").one_of<bool>(kThresholds).value_or(read.search.by_row);
  read.shift = options.optional("shift").real(0, 1).value_or(read.shift);
  return read;
}

}  // namespace

std::unique_ptr<Solver> configure_compot(MapReader& options) {
  Options read = read_shared_options(options);
  read.search.iterations = static_cast<int>(options.optional("iterations").integer(0, 1000).value_or(20));
  read.search.tolerance = options.optional("tolerance").real(0, 1).value_or(read.search.tolerance);
  return std::make_unique<CompotSolver>(read);
}

std::unique_ptr<Solver> configure_rocket(MapReader& options) {
  Options read = read_shared_options(options);
  read.importance = options.optional("importance").real(0, 4).value_or(0.5);
  return std::make_unique<CompotSolver>(read);
}

}  // namespace adze
