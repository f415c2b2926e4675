#include "solve/gptq/factor.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <fmt/format.h>

#include "base/parallel.h"
#include "linalg/factor.h"
#include "solve/common.h"

namespace adze {
namespace {

constexpr double kDeadInput = 1e-12;     // of the largest diagonal entry: below the rounding of the sums themselves
constexpr double kDampIncrement = 0.01;  // per retry, while damp < 1 (the ladder of GPTQModel)
constexpr int kFloorSteps = 6;           // then floors of 1e-6 .. 1e-1 of the largest diagonal entry

/// The diagonal with dead inputs replaced by the mean of the others, and how many those were. In units of a power of
/// four near the mean: every multiple of H gives the same result, and none leaves the range of single precision.
struct Diagonal {
  double unit = 1;  ///< what H is to be multiplied with
  std::vector<double> values;
  std::vector<bool> dead;
  std::size_t dead_count = 0;
  double mean = 0;
  double largest = 0;
};

Diagonal diagonal_of(ConstViewD h) {
  Diagonal diagonal;
  for (std::size_t j = 0; j < h.rows(); ++j) diagonal.largest = std::max(diagonal.largest, h(j, j));
  diagonal.unit = std::ldexp(1.0, -2 * (std::ilogb(diagonal.largest) / 2));
  diagonal.largest *= diagonal.unit;
  for (std::size_t j = 0; j < h.rows(); ++j) diagonal.values.push_back(h(j, j) * diagonal.unit);
  double sum = 0;
  for (const double value : diagonal.values) {
    diagonal.dead.push_back(value <= kDeadInput * diagonal.largest);
    if (diagonal.dead.back()) {
      ++diagonal.dead_count;
    } else {
      sum += value;
    }
  }
  diagonal.mean = sum / static_cast<double>(h.rows() - diagonal.dead_count);
  for (std::size_t j = 0; j < h.rows(); ++j)
    if (diagonal.dead[j]) diagonal.values[j] = diagonal.mean;
  return diagonal;
}

/// Stable sort of [first, last) by descending diagonal, so that ties keep their stored order.
void sort_by_diagonal(std::vector<std::size_t>& order, std::size_t first, std::size_t last,
                      const std::vector<double>& diagonal) {
  std::stable_sort(order.begin() + static_cast<std::ptrdiff_t>(first),
                   order.begin() + static_cast<std::ptrdiff_t>(last),
                   [&](std::size_t a, std::size_t b) { return diagonal[a] > diagonal[b]; });
}

std::vector<std::size_t> grouped_order(const std::vector<double>& diagonal, std::size_t unit_cols) {
  const std::size_t units = diagonal.size() / unit_cols;
  std::vector<double> largest(units);
  for (std::size_t c = 0; c < diagonal.size(); ++c)
    largest[c / unit_cols] = std::max(largest[c / unit_cols], diagonal[c]);
  std::vector<std::size_t> unit_order(units);
  std::iota(unit_order.begin(), unit_order.end(), std::size_t{0});
  sort_by_diagonal(unit_order, 0, units, largest);
  std::vector<std::size_t> order;
  for (const std::size_t unit : unit_order) {
    for (std::size_t c = 0; c < unit_cols; ++c) order.push_back(unit * unit_cols + c);
    sort_by_diagonal(order, order.size() - unit_cols, order.size(), diagonal);
  }
  return order;
}

std::vector<std::size_t> column_order(ColumnOrder kind, const std::vector<double>& diagonal, std::size_t unit_cols) {
  if (kind == ColumnOrder::group) return grouped_order(diagonal, unit_cols);
  std::vector<std::size_t> order(diagonal.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  if (kind == ColumnOrder::activation) sort_by_diagonal(order, 0, order.size(), diagonal);
  return order;
}

MatrixD permuted(ConstViewD h, const Diagonal& diagonal, const std::vector<std::size_t>& order, double add,
                 double floor) {
  const std::size_t n = order.size();
  MatrixD result(n, n);
  parallel_for(n, [&](std::size_t i) {
    const std::size_t row = order[i];
    for (std::size_t j = 0; j < n; ++j) {
      const bool coupled = !diagonal.dead[row] && !diagonal.dead[order[j]];
      result(i, j) = coupled ? h(row, order[j]) * diagonal.unit : 0.0;
    }
    result(i, i) = std::max(diagonal.values[row], floor) + add;
  });
  return result;
}

MatrixF to_single(const MatrixD& matrix) {
  MatrixF single(matrix.shape());
  parallel_for(matrix.rows(), [&](std::size_t r) {
    std::ranges::transform(matrix.row(r), single.row(r).begin(), [](double v) { return static_cast<float>(v); });
  });
  return single;
}

std::vector<float> pivot_importance(const GptqFactor& factor, const std::vector<bool>& dead) {
  std::vector<float> importance(factor.order.size());
  for (std::size_t p = 0; p < importance.size(); ++p) {
    const std::size_t col = factor.order[p];
    importance[col] = dead[col] ? 0.0f : factor.r(p, p) * factor.r(p, p);
  }
  return importance;
}

}  // namespace

GptqFactor factor_hessian(ConstViewD hessian, const GptqOptions& options, std::size_t unit_cols) {
  const Diagonal diagonal = diagonal_of(hessian);
  GptqFactor factor;
  factor.dead_inputs = diagonal.dead_count;
  factor.order = column_order(options.order, diagonal.values, unit_cols);
  for (int floor_step = 0; floor_step <= kFloorSteps; ++floor_step) {
    const double floor = floor_step == 0 ? 0.0 : 1e-6 * std::pow(10.0, floor_step - 1) * diagonal.largest;
    for (double damp = options.damp; damp < 1.0; damp += kDampIncrement) {
      MatrixD damped = permuted(hessian, diagonal, factor.order, damp * diagonal.mean, floor);
      if (reverse_cholesky(damped)) continue;
      factor.damping = damp;
      factor.unit = diagonal.unit;
      if (damp > options.damp)
        add_remark(factor.trouble, fmt::format("damping raised from {} to {:.2f}", options.damp, damp));
      if (floor > 0) add_remark(factor.trouble, fmt::format("diagonal raised to {:.2g}", floor));
      factor.r = to_single(damped);
      factor.importance = pivot_importance(factor, diagonal.dead);
      return factor;
    }
  }
  factor.trouble = "H is not positive definite at any damping below 1: rounded to nearest instead";
  return factor;
}

MatrixF damped_hessian(ConstViewD hessian, double damping) {
  const Diagonal diagonal = diagonal_of(hessian);
  MatrixF damped(hessian.shape());
  for (std::size_t i = 0; i < hessian.rows(); ++i) {
    for (std::size_t j = 0; j < hessian.cols(); ++j)
      damped(i, j) = diagonal.dead[i] || diagonal.dead[j] ? 0.0f : static_cast<float>(hessian(i, j) * diagonal.unit);
    // A dead input's weight is rounded on its own, and has no say in scales.
    constexpr double kNoSay = 1e-9;
    damped(i, i) =
        static_cast<float>(diagonal.dead[i] ? kNoSay * diagonal.mean : diagonal.values[i] + damping * diagonal.mean);
  }
  return damped;
}

}  // namespace adze
