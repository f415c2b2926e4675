#include "solve/gptq/gptq.h"

#include <algorithm>
#include <array>
#include <atomic>

#include <fmt/format.h>

#include "base/checked.h"
#include "base/parallel.h"
#include "linalg/convert.h"
#include "linalg/factor.h"
#include "linalg/gemm.h"
#include "linalg/rounding.h"
#include "solve/common.h"
#include "solve/gptq/factor.h"
#include "solve/rtn/rtn.h"

namespace adze {
namespace {

constexpr std::size_t kTileRows = 64;   // fixed: every product has a shape of the problem (docs/architecture.md)
constexpr std::size_t kLazyCols = 128;  // columns whose feedback is kept up to date one by one; GPTQ's block size

constexpr std::array kOrders{Named<ColumnOrder>{"natural", ColumnOrder::natural},
                             Named<ColumnOrder>{"activation", ColumnOrder::activation},
                             Named<ColumnOrder>{"group", ColumnOrder::group}};

/// A tile of rows, transposed: position p of the column order is row p here, so that one rounding step works on
/// contiguous rows of weights.
class TileSolver {
 public:
  TileSolver(ConstViewF weights, std::size_t first_row, const GptqFactor& factor, const GptqOptions& options, bool fixed_scales, Encoding& encoding)
      : first_row_(first_row),
        rows_(std::min(kTileRows, weights.rows() - first_row)),
        factor_(factor),
        rule_(options.scale_rule),
        fixed_scales_(fixed_scales),
        encoding_(encoding),
        unit_cols_(encoding.unit_cols()),
        step_cols_(encoding.step_cols()),
        weights_(weights.cols(), kTileRows),
        errors_(weights.cols(), kTileRows),
        steps_(4 * weights.cols() / step_cols_, kTileRows) {
    for (std::size_t r = 0; r < rows_; ++r)
      for (std::size_t p = 0; p < weights.cols(); ++p) weights_(p, r) = weights(first_row + r, factor.order[p]);
    if (fixed_scales)
      for (std::size_t g = 0; g < weights.cols() / step_cols_; ++g) load_steps(g);
  }

  void run() {
    const std::size_t cols = weights_.rows();
    // A block holds whole units: when a unit begins, the feedback of all its columns is known.
    const std::size_t block = fixed_scales_ ? kLazyCols : round_up(kLazyCols, unit_cols_);
    for (std::size_t first = 0; first < cols; first += block) run_block(first, std::min(block, cols - first));
  }

  /// False when feedback overflowed on the way; the codes are then meaningless, though still codes.
  bool finite() const { return finite_; }

 private:
  void run_block(std::size_t first, std::size_t count) {
    // Feedback S_j = sum over i < j of d_i R_ij, from all columns before the block by one product.
    feedback_ = MatrixF(count, kTileRows);
    if (first > 0)
      multiply_tn(factor_.r.view().row_range(0, first).col_range(first, count), errors_.view().row_range(0, first),
                  feedback_);
    for (std::size_t j = 0; j < count; ++j) {
      if (!fixed_scales_ && (first + j) % unit_cols_ == 0) begin_unit(first, j);
      round_column(first + j, feedback_.row(j));
      const std::span<const float> coefficients = factor_.r.row(first + j).subspan(first + j + 1, count - j - 1);
      add_outer(coefficients, errors_.row(first + j), feedback_.view().row_range(j + 1, count - j - 1));
    }
  }

  /// t_j = w_j + S_j / R_jj is the weight as error feedback has moved it; d_j = w_j - value is the error passed on.
  void round_column(std::size_t position, std::span<const float> feedback) {
    const float inverse_pivot = 1.0f / factor_.r(position, position);
    std::array<float, kTileRows> target;
    for (std::size_t r = 0; r < kTileRows; ++r) target[r] = weights_(position, r) + feedback[r] * inverse_pivot;
    finite_ = finite_ && all_finite(target);
    const std::size_t col = factor_.order[position];
    const std::size_t group = 4 * (col / step_cols_);
    std::array<std::int16_t, kTileRows> codes;
    std::array<float, kTileRows> values;
    round_to_grid(target, {steps_.row(group), steps_.row(group + 1), steps_.row(group + 2), steps_.row(group + 3)},
                  codes, values);
    for (std::size_t r = 0; r < kTileRows; ++r) errors_(position, r) = weights_(position, r) - values[r];
    for (std::size_t r = 0; r < rows_; ++r) encoding_.codes(first_row_ + r)[col] = codes[r];
  }

  /// Fits the unit that begins at block column j to its weights as feedback has moved them: W_g + S_g R_gg^-1, the same
  /// as the current weights of the classic, right-looking form.
  void begin_unit(std::size_t first, std::size_t j) {
    const std::size_t position = first + j;
    MatrixF moved(unit_cols_, kTileRows);
    std::copy_n(feedback_.row(j).data(), moved.values().size(), moved.data());
    solve_transposed_upper(factor_.r.view().row_range(position, unit_cols_).col_range(position, unit_cols_), moved);
    const std::size_t unit = factor_.order[position] / unit_cols_;
    const std::size_t first_col = unit * unit_cols_;
    std::vector<float> row(unit_cols_);
    for (std::size_t r = 0; r < rows_; ++r) {
      for (std::size_t i = 0; i < unit_cols_; ++i)
        row[factor_.order[position + i] - first_col] = weights_(position + i, r) + moved(i, r);
      encoding_.fit_unit(first_row_ + r, unit, row, std::span(factor_.importance).subspan(first_col, unit_cols_), rule_);
    }
    for (std::size_t g = first_col / step_cols_; g < (first_col + unit_cols_) / step_cols_; ++g) load_steps(g);
  }

  void load_steps(std::size_t group) {
    for (std::size_t r = 0; r < rows_; ++r) {
      const StepGroup& step = encoding_.group(first_row_ + r, group * step_cols_);
      steps_(4 * group, r) = step.step;
      steps_(4 * group + 1, r) = step.offset;
      steps_(4 * group + 2, r) = step.lo;
      steps_(4 * group + 3, r) = step.hi;
    }
  }

  std::size_t first_row_;
  std::size_t rows_;
  const GptqFactor& factor_;
  ScaleRule rule_;
  bool fixed_scales_;
  Encoding& encoding_;
  std::size_t unit_cols_;
  std::size_t step_cols_;
  MatrixF weights_;   // [cols x kTileRows]
  MatrixF errors_;    // [cols x kTileRows], d = w - value
  MatrixF steps_;     // per step group four rows: step, offset, lo, hi
  bool finite_ = true;
  MatrixF feedback_;  // [columns of the block x kTileRows]
};

class GptqSolver final : public Solver {
 public:
  explicit GptqSolver(const GptqOptions& options) : options_(options) {}

  std::string description() const override {
    const auto order = std::ranges::find(kOrders, options_.order, &Named<ColumnOrder>::value);
    return fmt::format("gptq damp={} order={} static_scales={} scale_rule={}", options_.damp, order->name,
                       options_.static_scales, name_of(options_.scale_rule));
  }

  std::vector<Solution> solve(const Problem& problem) const override {
    check_problem(problem);
    if (!problem.has_hessian()) {  // H = I: feedback is zero (specification 2.4)
      SolveReport report;
      report.fallback = "no second moment (an untied embedding has none): rounded to nearest";
      return round_all(problem, report);
    }
    const GptqFactor factor = factor_hessian(problem.hessian, options_, problem.grid->unit_cols(problem.inputs()));
    SolveReport report;
    report.damping = factor.damping;
    report.dead_inputs = factor.dead_inputs;
    report.fallback = factor.trouble;
    if (factor.r.empty()) return round_all(problem, report);
    std::vector<Solution> solutions;
    for (std::size_t i = 0; i < problem.weights.size(); ++i)
      solutions.push_back(solve_one(problem, i, factor, report));
    return solutions;
  }

 private:
  std::vector<Solution> round_all(const Problem& problem, const SolveReport& report) const {
    std::vector<Solution> solutions;
    for (std::size_t i = 0; i < problem.weights.size(); ++i)
      solutions.push_back(solve_rtn(problem, i, options_.scale_rule, report));
    return solutions;
  }

  Solution solve_one(const Problem& problem, std::size_t index, const GptqFactor& factor, SolveReport report) const {
    const ConstViewF weights = problem.weights[index];
    Encoding encoding(problem.grid, weights.shape());
    // A unit as wide as the row begins before any feedback, so its scales are those of the original weights anyway.
    const bool fixed_scales = options_.static_scales || options_.order == ColumnOrder::activation ||
                              encoding.unit_cols() == weights.cols();
    if (fixed_scales) encoding.fit_all(weights, factor.importance, options_.scale_rule);
    std::atomic<bool> finite = true;
    parallel_for(divide_up(weights.rows(), kTileRows), [&](std::size_t tile) {
      TileSolver solver(weights, tile * kTileRows, factor, options_, fixed_scales, encoding);
      solver.run();
      if (!solver.finite()) finite = false;
    });
    if (finite) return finish_solution(problem, index, encoding, std::move(report));
    add_remark(report.fallback, "error feedback overflowed: rounded to nearest instead");
    return solve_rtn(problem, index, options_.scale_rule, std::move(report));
  }

  GptqOptions options_;
};

}  // namespace

std::unique_ptr<Solver> make_gptq(const GptqOptions& options) { return std::make_unique<GptqSolver>(options); }

std::unique_ptr<Solver> configure_gptq(MapReader& options) {
  GptqOptions read;
  read.damp = options.optional("damp").real(0, 0.99).value_or(read.damp);
  read.order = options.optional("order").one_of<ColumnOrder>(kOrders).value_or(read.order);
  const Value fixed = options.optional("static_scales");
  read.static_scales = fixed.boolean().value_or(read.order == ColumnOrder::activation);
  if (read.order == ColumnOrder::activation && !read.static_scales)
    fixed.complain("must be true with order: activation, which would tear moving groups apart; order: group keeps them");
  read.scale_rule = read_scale_rule(options);
  return make_gptq(read);
}

}  // namespace adze
