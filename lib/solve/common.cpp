#include "solve/common.h"

#include <array>
#include <cmath>

#include <fmt/format.h>

#include "base/error.h"
#include "linalg/convert.h"
#include "metrics/proxy_loss.h"
#include "solve/gptq/shift.h"

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

Solution finish_solution(const Problem& problem, std::size_t index, const Encoding& encoding, SolveReport report) {
  return finish_solution(problem, index, encoding.finish(), std::move(report));
}

std::size_t dead_inputs(const Problem& problem) {
  double largest = 0;
  std::size_t dead = 0;
  if (!problem.has_hessian()) return 0;
  for (std::size_t j = 0; j < problem.inputs(); ++j) largest = std::max(largest, problem.hessian(j, j));
  for (std::size_t j = 0; j < problem.inputs(); ++j)
    if (problem.hessian(j, j) <= 1e-12 * largest) ++dead;
  return dead;
}

Problem shifted_problem(const Problem& problem, double strength, std::vector<MatrixF>& targets, std::string& remarks) {
  Problem shifted = problem;
  if (strength > 0 && problem.cross.rows() > 0) targets = shifted_targets(problem, strength, remarks);
  if (!targets.empty()) shifted.weights.assign(targets.begin(), targets.end());
  return shifted;
}

Solution finish_solution(const Problem& problem, std::size_t index, std::shared_ptr<const CompressedTensor> tensor,
                         SolveReport report) {
  const ConstViewF weights = problem.weights[index];
  Solution solution{std::move(tensor), std::move(report)};
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

PolishOptions read_polish(MapReader& options, PolishOptions defaults) {
  defaults.sweeps = static_cast<int>(options.optional("polish").integer(0, 100).value_or(defaults.sweeps));
  defaults.refit = options.optional("refit").boolean().value_or(defaults.refit);
  return defaults;
}

std::string description_of(const PolishOptions& options) {
  return fmt::format("polish={} refit={}", options.sweeps, options.refit);
}

std::string_view name_of(ScaleRule rule) {
  for (const auto& row : kScaleRules)
    if (row.value == rule) return row.name;
  return "";
}

}  // namespace adze
