#include "solve/svd/svd.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "base/checked.h"
#include "base/parallel.h"
#include "linalg/gemm.h"
#include "linalg/inverse.h"
#include "solve/common.h"
#include "solve/factors/metric.h"
#include "solve/factors/stored_factors.h"

namespace adze {
namespace {

struct SvdOptions {
  FactorBudget budget;
  FactorMetric metric;
  FactorForm form = FactorForm::plain;
  bool balanced = false;
  bool readers = false;  ///< weigh outputs by what reads them
  double shift = 1;
};

class SvdSolver final : public Solver {
 public:
  explicit SvdSolver(const SvdOptions& options) : options_(options) {}

  std::string description() const override {
    return fmt::format("svd {} {} form={} balanced={} readers={} shift={}", options_.budget.in_words(),
                       options_.metric.in_words(), name_of(options_.form), options_.balanced, options_.readers,
                       options_.shift);
  }

  bool wants_reference() const override { return options_.shift > 0; }
  bool wants_readers() const override { return options_.readers; }
  bool needs_inputs() const override { return options_.readers || options_.metric.kind != FactorMetric::Kind::none; }
  bool couples_rows() const override { return true; }

  std::string format(const Target& target) const override {
    return factor_format(rank_of(target).rank, options_.form, target.grid);
  }

  std::optional<std::string> cannot_make(const Target& target) const override {
    const RankChoice choice = rank_of(target);
    if (choice.trouble || choice.rank > 0) return choice.trouble;
    return target.grid.cannot_hold(target.shape.cols);
  }

  std::string remark(const Target& target) const override {
    if (rank_of(target).rank > 0) return "";
    return fmt::format("factors would take no less than the matrix: stored whole, as {}", target.grid.name());
  }

  /// In double: H's root; then of every tensor the weights, W H or W C, and Gram matrix, eigenvectors and workspace;
  /// with readers their moment and its root, and the weights once more.
  SolverScratch scratch(const ProblemSize& size) const override {
    const std::uint64_t moment = size.has_hessian ? std::uint64_t{size.inputs} * size.inputs * sizeof(double) : 0;
    const std::uint64_t targets = options_.shift > 0 && size.has_cross ? size.weights * sizeof(float) : 0;
    const std::uint64_t outputs = size.largest / size.inputs;
    const std::uint64_t side = std::min<std::uint64_t>(outputs, size.inputs);
    const std::uint64_t tensors = divide_up(size.weights, size.largest);
    const std::uint64_t readers = options_.readers ? size.weights + tensors * 2 * outputs * outputs : 0;
    return {2 * moment + targets,
            moment + targets + (3 * size.weights + tensors * 4 * side * side + readers) * sizeof(double)};
  }

  std::vector<Solution> solve(const Problem& problem) const override {
    check_problem(problem);
    SolveReport report;
    report.dead_inputs = dead_inputs(problem);
    std::vector<MatrixF> targets;
    const Problem shifted = shifted_problem(problem, options_.shift, targets, report.fallback);
    const MatrixD h = options_.metric.moment(problem);
    const bool wants_root = std::ranges::any_of(problem.weights, [](ConstViewF w) { return w.rows() > w.cols(); });
    const MatrixD root = wants_root ? moment_root(h) : MatrixD();
    std::vector<Solution> solutions(problem.weights.size());
    parallel_for(solutions.size(), [&](std::size_t i) { solutions[i] = solve_one(shifted, i, h, root, report); });
    return solutions;
  }

 private:
  RankChoice rank_of(const Target& target) const { return choose_rank(options_.budget, options_.form, target); }

  Solution solve_one(const Problem& problem, std::size_t index, const MatrixD& h, const MatrixD& root,
                     SolveReport report) const {
    const ConstViewF original = problem.weights[index];
    const std::size_t rank = rank_of({original.shape(), *problem.grid}).rank;
    if (rank == 0) {
      auto whole = store_matrix(original, problem.hessian, problem.grid, report.fallback);
      return finish_solution(problem, index, std::move(whole), std::move(report));
    }
    const MatrixD weights = to_double(original);
    const MatrixD reader = options_.readers ? reader_root(problem, index, report) : MatrixD();
    Factors factors =
        reader.empty() ? factors_of(weights, h, root, rank) : read_factors(weights, h, root, rank, reader);
    auto product = store_factors(weights, h, factors, rank, options_.form, problem.grid, report.fallback);
    return finish_solution(problem, index, std::move(product), std::move(report));
  }

  Factors factors_of(const MatrixD& weights, const MatrixD& h, const MatrixD& root, std::size_t rank) const {
    const OutputSpectrum spectrum = output_spectrum(weights, h, root, rank);
    Factors factors = leading_factors(weights, spectrum);
    if (options_.balanced) balance(spectrum, factors);
    return factors;
  }

  /// In the norm of tr(M (W - What) H (W - What)^T), M = F F^T: those of F^T W, and F^-T before the left one
  /// (specification 20.2).
  Factors read_factors(const MatrixD& weights, const MatrixD& h, const MatrixD& root, std::size_t rank,
                       const MatrixD& reader) const {
    Factors factors = factors_of(product_tn(reader, weights), h, root, rank);
    for (std::size_t c = 0; c < factors.left.cols(); ++c) {  // F^T x = u, from the last row on
      for (std::size_t r = factors.left.rows(); r-- > 0;) {
        double rest = factors.left(r, c);
        for (std::size_t k = r + 1; k < factors.left.rows(); ++k) rest -= reader(k, r) * factors.left(k, c);
        factors.left(r, c) = rest / reader(r, r);
      }
    }
    return factors;
  }

  /// F, lower triangular; empty, and said, where the readers of this matrix are not known.
  static MatrixD reader_root(const Problem& problem, std::size_t index, SolveReport& report) {
    constexpr double kDamping = 1e-3;  // of the mean of the diagonal: outputs that nothing reads are not free
    if (problem.readers.empty() || problem.readers[index].rows() == 0) {
      add_remark(report.fallback, "what reads its outputs is known of keys and values only: all weigh the same");
      return {};
    }
    const ConstViewD reading = problem.readers[index];
    MatrixD lower(reading.shape());
    double mean = 0;
    for (std::size_t i = 0; i < reading.rows(); ++i) mean += reading(i, i) / static_cast<double>(reading.rows());
    for (std::size_t r = 0; r < reading.rows(); ++r)
      for (std::size_t c = 0; c < reading.cols(); ++c)
        lower(r, c) = 0.5 * (reading(r, c) + reading(c, r)) + (r == c ? kDamping * mean : 0);
    if (!(mean > 0) || !cholesky(lower)) {
      add_remark(report.fallback, "nothing reads its outputs: all weigh the same");
      return {};
    }
    for (std::size_t r = 0; r < lower.rows(); ++r) std::ranges::fill(lower.row(r).subspan(r + 1), 0.0);
    return lower;
  }

  /// Both factors carry the root of sigma_i.
  static void balance(const OutputSpectrum& spectrum, Factors& factors) {
    for (std::size_t i = 0; i < factors.right.rows(); ++i) {
      const double scale = std::pow(spectrum.energy[i], 0.25);
      for (double& value : factors.right.row(i)) value /= scale;
      for (std::size_t r = 0; r < factors.left.rows(); ++r) factors.left(r, i) *= scale;
    }
  }

  SvdOptions options_;
};

}  // namespace

std::unique_ptr<Solver> configure_svd(MapReader& options) {
  SvdOptions read;
  read.budget = read_budget(options);
  read.metric = read_factor_metric(options);
  read.form = read_factor_form(options);
  read.balanced = options.optional("balanced").boolean().value_or(read.balanced);
  read.readers = options.optional("readers").boolean().value_or(read.readers);
  read.shift = options.optional("shift").real(0, 1).value_or(read.shift);
  return std::make_unique<SvdSolver>(read);
}

}  // namespace adze
