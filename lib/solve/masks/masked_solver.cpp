#include "solve/masks/masked_solver.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "base/error.h"
#include "base/parallel.h"
#include "linalg/inverse.h"
#include "solve/common.h"
#include "solve/gptq/feedback.h"
#include "solve/masks/mask_rules.h"
#include "solve/restore/restore.h"
#include "solve/rows/rows.h"

namespace adze {
namespace {

constexpr std::array kRoundings{Named<Rounding>{"nearest", Rounding::nearest},
                                Named<Rounding>{"shared", Rounding::shared}, Named<Rounding>{"rows", Rounding::rows}};

/// A matrix in double of all inputs for every thread: K may be nearly all of them.
std::uint64_t thread_factors_bytes(std::size_t inputs) {
  return static_cast<std::uint64_t>(thread_count()) * inputs * inputs * sizeof(double);
}

class MaskedSolver final : public Solver {
 public:
  MaskedSolver(MaskedMethod method, const MaskedOptions& options) : method_(std::move(method)), options_(options) {}

  std::string description() const override {
    return fmt::format("{} {}{}{}", method_.name, method_.options, method_.values ? "" : steps_in_words(),
                       options_in_words());
  }

  bool wants_reference() const override { return options_.shift > 0; }
  bool needs_inputs() const override { return second_order() || method_.weighs_input; }

  /// Factoring holds H permuted in double; solving the factor, damped H, restored weights, and the mask as floats.
  SolverScratch scratch(const ProblemSize& size) const override {
    const std::uint64_t moment = std::uint64_t{size.inputs} * size.inputs;
    const std::uint64_t targets = options_.shift > 0 && size.has_cross ? size.weights * sizeof(float) : 0;
    if (!second_order() || !size.has_hessian) return {targets, targets + 2 * size.largest * sizeof(float)};
    const bool by_rows = options_.rounding == Rounding::rows && !method_.values;  // a factor of H_KK a thread
    const std::uint64_t own = method_.extra_scratch ? method_.extra_scratch(size)
                              : by_rows             ? thread_factors_bytes(size.inputs)
                                                    : 0;
    return {moment * (sizeof(double) + 2 * sizeof(float)) + targets,
            2 * moment * sizeof(float) + 3 * size.largest * sizeof(float) + targets + own};
  }

  double extra_operations(const ProblemSize& size) const override {
    if (method_.extra_operations) return method_.extra_operations(size);
    const bool by_rows = options_.rounding == Rounding::rows && !method_.values;
    return by_rows ? row_operations(size.weights / size.inputs, size.inputs) : 0;
  }

  std::vector<Solution> solve(const Problem& problem) const override {
    check_problem(problem);
    SolveReport report;
    std::vector<MatrixF> targets;
    const Problem shifted = shifted_problem(problem, options_.shift, targets, report.fallback);
    const InputKnowledge inputs = know(problem, report);
    std::vector<Solution> solutions;
    for (std::size_t i = 0; i < shifted.weights.size(); ++i) solutions.push_back(solve_one(shifted, i, inputs, report));
    return solutions;
  }

 private:
  std::string steps_in_words() const {
    const auto* const rounding = std::ranges::find(kRoundings, options_.rounding, &Named<Rounding>::value);
    return fmt::format("restore={} rounding={} ", options_.restore, rounding->name);
  }
  std::string options_in_words() const {
    return fmt::format("damp={} scale_rule={} shift={} {}", options_.damp, name_of(options_.scale_rule), options_.shift,
                       description_of(options_.polish));
  }

  bool second_order() const {
    return method_.second_order || options_.restore || options_.rounding != Rounding::nearest ||
           options_.polish.sweeps > 0;
  }

  InputKnowledge know(const Problem& problem, SolveReport& report) const {
    InputKnowledge inputs;
    inputs.moments = input_importance(problem);
    if (!second_order()) return inputs;
    if (!problem.has_hessian()) {
      add_remark(report.fallback, "no second moment: pruned and rounded without it");
      return inputs;
    }
    GptqOptions factoring;
    factoring.damp = options_.damp;
    factoring.order = ColumnOrder::natural;
    inputs.factor = factor_hessian(problem.hessian, factoring, problem.grid->unit_cols(problem.inputs()));
    report.damping = inputs.factor.damping;
    report.dead_inputs = inputs.factor.dead_inputs;
    if (!inputs.factor.trouble.empty()) add_remark(report.fallback, inputs.factor.trouble);
    if (!inputs.factor.r.empty()) inputs.damped = damped_hessian(problem.hessian, inputs.factor.damping);
    return inputs;
  }

  Solution solve_one(const Problem& problem, std::size_t index, const InputKnowledge& inputs,
                     SolveReport report) const {
    const ConstViewF weights = problem.weights[index];
    Encoding encoding(problem.grid, weights.shape());
    if (problem.pattern) encoding.prune(*problem.pattern, choose(weights, *problem.pattern, inputs));
    if (!make_values(problem, weights, inputs, encoding)) {
      add_remark(report.fallback, "error feedback failed: rounded to nearest instead");
      round_to_nearest(weights, inputs, encoding);
    }
    if (!inputs.damped.empty() && options_.polish.sweeps > 0) polish(weights, inputs.damped, options_.polish, encoding);
    return finish_solution(problem, index, encoding, std::move(report));
  }

  Mask choose(ConstViewF weights, const SparsityPattern& pattern, const InputKnowledge& inputs) const {
    if (method_.mask) return method_.mask(weights, pattern, inputs);
    if (!inputs.damped.empty()) return Mask(weights.shape());  // the values' maker prunes
    return choose_mask(magnitude_scores(weights), pattern, Competition::matrix);
  }

  bool make_values(const Problem& problem, ConstViewF weights, const InputKnowledge& inputs, Encoding& encoding) const {
    if (inputs.damped.empty()) {
      round_to_nearest(weights, inputs, encoding);
      return true;
    }
    if (method_.values) return method_.values(weights, problem.pattern, inputs, encoding);
    const bool restores = options_.restore && !encoding.mask().empty();
    const MatrixF restored = restores ? restore_kept(weights, inputs.damped, encoding.mask()) : MatrixF();
    return round(restores ? restored.view() : weights, inputs, encoding);
  }

  bool round(ConstViewF weights, const InputKnowledge& inputs, Encoding& encoding) const {
    switch (options_.rounding) {
      case Rounding::shared:
        return round_shared(weights, inputs, options_.scale_rule, encoding);
      case Rounding::rows:
        return round_by_rows(weights, inputs, options_.scale_rule, encoding);
      case Rounding::nearest:
        break;
    }
    round_to_nearest(weights, inputs, encoding);
    return true;
  }

  void round_to_nearest(ConstViewF weights, const InputKnowledge& inputs, Encoding& encoding) const {
    encoding.fit_all(weights, inputs.moments, options_.scale_rule);
    parallel_for(weights.rows(), [&](std::size_t r) { encoding.round_row(r, weights.row(r)); });
  }

  MaskedMethod method_;
  MaskedOptions options_;
};

/// A unit as wide as the row begins before any feedback, so its scales are those of the weights anyway.
bool scales_are_fixed(const Encoding& encoding) {
  return encoding.unit_cols() == encoding.shape().cols || encoding.grid().one_side_per_tensor();
}

}  // namespace

MatrixD inverse_of(const InputKnowledge& inputs) {
  MatrixD inverse(inputs.damped.shape());
  std::ranges::copy(inputs.damped.values(), inverse.values().begin());
  if (!invert(inverse)) fail(ErrorKind::internal, "a damped H that was factored cannot be inverted");
  return inverse;
}

std::unique_ptr<Solver> make_masked_solver(MaskedMethod method, const MaskedOptions& options) {
  return std::make_unique<MaskedSolver>(std::move(method), options);
}

MaskedOptions read_masked_options(MapReader& options, MaskedOptions defaults) {
  defaults.damp = options.optional("damp").real(0, 0.99).value_or(defaults.damp);
  defaults.shift = options.optional("shift").real(0, 1).value_or(defaults.shift);
  defaults.scale_rule = read_scale_rule(options);
  defaults.polish = read_polish(options, defaults.polish);
  return defaults;
}

MaskedOptions read_masked_steps(MapReader& options, MaskedOptions defaults) {
  defaults.restore = options.optional("restore").boolean().value_or(defaults.restore);
  defaults.rounding = options.optional("rounding").one_of<Rounding>(kRoundings).value_or(defaults.rounding);
  return read_masked_options(options, defaults);
}

bool round_shared(ConstViewF weights, const InputKnowledge& inputs, ScaleRule rule, Encoding& encoding,
                  std::optional<SparsityPattern> chooses, bool enumerate) {
  const bool across_units =
      chooses && chooses->kind() == PatternKind::n_of_m && encoding.unit_cols() % chooses->m() != 0;
  const bool fixed_scales = across_units || scales_are_fixed(encoding);
  if (fixed_scales) encoding.fit_all(weights, inputs.factor.importance, rule);
  const FeedbackPlan plan(inputs.factor, encoding, rule, fixed_scales, std::move(chooses), enumerate);
  return round_with_feedback(plan, weights, encoding).finite;
}

bool round_by_rows(ConstViewF weights, const InputKnowledge& inputs, ScaleRule rule, Encoding& encoding) {
  const bool fixed_scales = scales_are_fixed(encoding);
  if (fixed_scales) encoding.fit_all(weights, inputs.factor.importance, rule);
  return round_rows(weights, inputs.damped, rule, fixed_scales, encoding);
}

}  // namespace adze
