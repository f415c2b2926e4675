#include "solve/common.h"

#include <array>
#include <cmath>

#include "base/error.h"
#include "linalg/convert.h"
#include "linalg/rounding.h"
#include "metrics/proxy_loss.h"

namespace adze {
namespace {

constexpr std::array kScaleRules{Named<ScaleRule>{"search", ScaleRule::search},
                                 Named<ScaleRule>{"minmax", ScaleRule::minmax}};

}  // namespace

void check_problem(const Problem& problem) {
  for (const ConstViewF& weights : problem.weights)
    for (std::size_t r = 0; r < weights.rows(); ++r)
      if (!all_finite(weights.row(r))) fail(ErrorKind::bad_data, "row {} has a weight that is not finite", r);
  if (!problem.has_hessian()) return;
  double largest = 0;
  for (std::size_t j = 0; j < problem.inputs(); ++j) {
    const double diagonal = problem.hessian(j, j);
    if (!std::isfinite(diagonal) || diagonal < 0)
      fail(ErrorKind::bad_data, "second moment of input {} is {}: the activations are broken", j, diagonal);
    largest = std::max(largest, diagonal);
  }
  if (largest == 0) fail(ErrorKind::bad_data, "every input is zero on the whole calibration set");
}

std::vector<float> input_importance(const Problem& problem) {
  const std::size_t inputs = problem.inputs();
  std::vector<float> importance(inputs, 1.0f);
  if (!problem.has_hessian()) return importance;
  double mean = 0;
  for (std::size_t j = 0; j < inputs; ++j) mean += problem.hessian(j, j);
  mean /= static_cast<double>(inputs);
  for (std::size_t j = 0; j < inputs; ++j) importance[j] = static_cast<float>(problem.hessian(j, j) / mean);
  return importance;
}

void round_row(ConstViewF weights, std::size_t row, Encoding& encoding) {
  const std::size_t cols = weights.cols();
  const std::size_t step_cols = encoding.step_cols();
  std::array<std::vector<float>, 4> spread;  // step, offset, lo, hi of every column
  for (std::vector<float>& values : spread) values.resize(cols);
  for (std::size_t c = 0; c < cols; c += step_cols) {
    const StepGroup& group = encoding.group(row, c);
    std::fill_n(spread[0].begin() + static_cast<std::ptrdiff_t>(c), step_cols, group.step);
    std::fill_n(spread[1].begin() + static_cast<std::ptrdiff_t>(c), step_cols, group.offset);
    std::fill_n(spread[2].begin() + static_cast<std::ptrdiff_t>(c), step_cols, group.lo);
    std::fill_n(spread[3].begin() + static_cast<std::ptrdiff_t>(c), step_cols, group.hi);
  }
  std::vector<float> values(cols);
  round_to_grid(weights.row(row), {spread[0], spread[1], spread[2], spread[3]}, encoding.codes(row), values);
}

Solution finish_solution(const Problem& problem, std::size_t index, const Encoding& encoding, SolveReport report) {
  const ConstViewF weights = problem.weights[index];
  Solution solution{encoding.finish(), std::move(report)};
  const MatrixF approximation = solution.tensor->decode();
  double energy = 0;
  if (problem.has_hessian()) {
    solution.report.loss = proxy_loss(weights, approximation, problem.hessian);
    energy = output_energy(weights, problem.hessian);
  } else {
    for (std::size_t r = 0; r < weights.rows(); ++r)
      for (std::size_t c = 0; c < weights.cols(); ++c) {
        solution.report.loss += std::pow(static_cast<double>(weights(r, c)) - approximation(r, c), 2);
        energy += std::pow(static_cast<double>(weights(r, c)), 2);
      }
  }
  solution.report.relative_loss = energy > 0 ? solution.report.loss / energy : 0;
  if (!std::isfinite(solution.report.loss))
    fail(ErrorKind::internal, "tensor {} of its group: the stored values are not finite", index);
  return solution;
}

void add_remark(std::string& remarks, std::string_view remark) {
  if (!remarks.empty()) remarks += "; ";
  remarks += remark;
}

ScaleRule read_scale_rule(MapReader& options) {
  return options.optional("scale_rule").one_of<ScaleRule>(kScaleRules).value_or(ScaleRule::search);
}

std::string_view name_of(ScaleRule rule) {
  for (const auto& row : kScaleRules)
    if (row.value == rule) return row.name;
  return "";
}

}  // namespace adze
