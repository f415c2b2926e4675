#include "solve/gptq/shift.h"

#include <algorithm>

#include "base/checked.h"
#include "base/parallel.h"
#include "linalg/convert.h"
#include "linalg/factor.h"
#include "linalg/gemm.h"
#include "solve/common.h"

namespace adze {
namespace {

constexpr double kRidge = 0.3;          // of mean(diag H); measured above
constexpr std::size_t kTileRows = 128;  // fixed, as everywhere: products have shapes of the problem

/// R of H + ridge, R R^T; empty when it cannot be factored.
MatrixF ridge_factor(ConstViewD hessian) {
  MatrixD damped(hessian.shape());
  double mean = 0;
  for (std::size_t i = 0; i < hessian.rows(); ++i) {
    std::ranges::copy(hessian.row(i), damped.row(i).begin());
    mean += hessian(i, i) / static_cast<double>(hessian.rows());
  }
  for (std::size_t i = 0; i < hessian.rows(); ++i) damped(i, i) += kRidge * mean;
  if (reverse_cholesky(damped)) return {};
  MatrixF factor(hessian.shape());
  std::ranges::transform(damped.values(), factor.values().begin(), [](double v) { return static_cast<float>(v); });
  return factor;
}

MatrixF shifted(const Problem& problem, std::size_t index, const MatrixF& factor, float strength) {
  const ConstViewF weights = problem.weights[index];
  MatrixF target(weights.shape());
  parallel_for(divide_up(weights.rows(), kTileRows), [&](std::size_t t) {
    const std::size_t first = t * kTileRows;
    const std::size_t rows = std::min(kTileRows, weights.rows() - first);
    MatrixF original(kTileRows, weights.cols());  // the last tile is padded
    MatrixF shift(kTileRows, weights.cols());
    for (std::size_t r = 0; r < rows; ++r) std::ranges::copy(weights.row(first + r), original.row(r).begin());
    if (!problem.residual.empty())
      for (std::size_t r = 0; r < rows; ++r)
        std::ranges::copy(problem.residual[index].row(first + r), shift.row(r).begin());
    multiply_nn(original, problem.cross, shift, true);
    solve_normal_right(factor, shift);
    for (std::size_t r = 0; r < rows; ++r)
      for (std::size_t c = 0; c < weights.cols(); ++c) target(first + r, c) = original(r, c) + strength * shift(r, c);
  });
  return target;
}

}  // namespace

std::vector<MatrixF> shifted_targets(const Problem& problem, double strength, std::string& remarks) {
  const MatrixF factor = ridge_factor(problem.hessian);
  if (factor.empty()) {
    add_remark(remarks, "H is not positive semidefinite: targets are not shifted");
    return {};
  }
  std::vector<MatrixF> targets;
  for (std::size_t i = 0; i < problem.weights.size(); ++i)
    targets.push_back(shifted(problem, i, factor, static_cast<float>(strength)));
  for (const MatrixF& target : targets)
    if (!all_finite(target.values())) {
      add_remark(remarks, "shifted targets overflow: targets are not shifted");
      return {};
    }
  return targets;
}

}  // namespace adze
