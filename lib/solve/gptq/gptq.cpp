#include "solve/gptq/gptq.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "solve/common.h"
#include "solve/gptq/factor.h"
#include "solve/gptq/feedback.h"
#include "solve/rtn/rtn.h"

namespace adze {
namespace {

constexpr std::array kOrders{Named<ColumnOrder>{"natural", ColumnOrder::natural},
                             Named<ColumnOrder>{"activation", ColumnOrder::activation},
                             Named<ColumnOrder>{"group", ColumnOrder::group}};

class GptqSolver final : public Solver {
 public:
  explicit GptqSolver(const GptqOptions& options) : options_(options) {}

  std::string description() const override {
    const auto order = std::ranges::find(kOrders, options_.order, &Named<ColumnOrder>::value);
    return fmt::format("gptq damp={} order={} static_scales={} scale_rule={} shift={} {}", options_.damp, order->name,
                       options_.static_scales, name_of(options_.scale_rule), options_.shift,
                       description_of(options_.polish));
  }

  std::vector<Solution> solve(const Problem& problem) const override {
    check_problem(problem);
    if (!problem.has_hessian()) {  // H = I: feedback is zero (specification 2.4)
      SolveReport report;
      report.fallback = "no second moment (an untied embedding has none): rounded to nearest";
      return round_all(problem, report);
    }
    SolveReport report;
    std::vector<MatrixF> targets;
    const Problem shifted = shifted_problem(problem, options_.shift, targets, report.fallback);  // losses, too
    const GptqFactor factor = factor_hessian(problem.hessian, options_, problem.grid->unit_cols(problem.inputs()));
    report.damping = factor.damping;
    report.dead_inputs = factor.dead_inputs;
    if (!factor.trouble.empty()) add_remark(report.fallback, factor.trouble);
    if (factor.r.empty()) return round_all(problem, report);
    std::vector<Solution> solutions;
    const MatrixF damped = options_.polish.sweeps > 0 ? damped_hessian(problem.hessian, factor.damping) : MatrixF();
    for (std::size_t i = 0; i < shifted.weights.size(); ++i)
      solutions.push_back(solve_one(shifted, i, factor, damped, report));
    return solutions;
  }

  bool wants_reference() const override { return options_.shift > 0; }

  /// A permuted copy of H and the factor beside it; then the factor, and H once more for polish. Shifted targets of all
  /// tensors stay.
  SolverScratch scratch(const ProblemSize& size) const override {
    if (!size.has_hessian) return {};
    const std::uint64_t moment = std::uint64_t{size.inputs} * size.inputs;
    const std::uint64_t targets = options_.shift > 0 && size.has_cross ? size.weights * sizeof(float) : 0;
    const std::uint64_t copies = options_.polish.sweeps > 0 ? 2 : 1;
    return {moment * (sizeof(double) + sizeof(float)) + targets, copies * moment * sizeof(float) + targets};
  }

 private:
  std::vector<Solution> round_all(const Problem& problem, const SolveReport& report) const {
    std::vector<Solution> solutions;
    for (std::size_t i = 0; i < problem.weights.size(); ++i)
      solutions.push_back(solve_rtn(problem, i, options_.scale_rule, report));
    return solutions;
  }

  /// damped: what polish works with; empty without it.
  Solution solve_one(const Problem& problem, std::size_t index, const GptqFactor& factor, const MatrixF& damped,
                     SolveReport report) const {
    const ConstViewF weights = problem.weights[index];
    Encoding encoding(problem.grid, weights.shape());
    // A unit as wide as the row begins before any feedback, so its scales are those of the original weights anyway.
    const bool fixed_scales =
        options_.static_scales || options_.order == ColumnOrder::activation || encoding.unit_cols() == weights.cols();
    if (fixed_scales) encoding.fit_all(weights, factor.importance, options_.scale_rule);
    const FeedbackPlan plan(factor, encoding, options_.scale_rule, fixed_scales);
    const bool finite = round_with_feedback(plan, weights, encoding).finite;
    if (finite && !damped.empty()) polish(weights, damped, options_.polish, encoding);
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
    fixed.complain(
        "must be true with order: activation, which would tear moving groups apart; order: group keeps them");
  read.scale_rule = read_scale_rule(options);
  read.shift = options.optional("shift").real(0, 1).value_or(read.shift);
  read.polish = read_polish(options, read.polish);
  return make_gptq(read);
}

}  // namespace adze
