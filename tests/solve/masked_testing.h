// Pruning problems for solver tests, and least squares on a mask by normal equations, which shares no code with the
// library's.
#pragma once

#include <Eigen/Dense>

#include "grid/float_grid.h"
#include "grid/sparse/sparse_tensor.h"
#include "solve_testing.h"

namespace adze {

inline MatrixF golden_weights() {
  MatrixF w(2, 4);
  const float values[] = {0.62f, -0.37f, 0.18f, 0.91f, -0.55f, 0.44f, -0.73f, 0.26f};
  std::copy(std::begin(values), std::end(values), w.data());
  return w;
}

inline MatrixD golden_hessian() {
  MatrixD h(4, 4);
  const double values[] = {7, 11, -4, -1, 11, 20, -3, 2, -4, -3, 7, 5, -1, 2, 5, 8};
  std::copy(std::begin(values), std::end(values), h.data());
  return h;
}

/// H + damp mean(diag H) I.
inline MatrixD damped(MatrixD h, double damp = 0.01) {
  double mean = 0;
  for (std::size_t i = 0; i < h.rows(); ++i) mean += h(i, i) / static_cast<double>(h.rows());
  for (std::size_t i = 0; i < h.rows(); ++i) h(i, i) += damp * mean;
  return h;
}

inline MatrixF to_float(const MatrixD& matrix) {
  MatrixF single(matrix.shape());
  for (std::size_t i = 0; i < matrix.values().size(); ++i) single.values()[i] = static_cast<float>(matrix.values()[i]);
  return single;
}

/// tr((W - What) H (W - What)^T) of one row.
inline double row_loss(const MatrixF& w, const MatrixF& what, const MatrixD& h, std::size_t r) {
  double sum = 0;
  for (std::size_t i = 0; i < h.rows(); ++i)
    for (std::size_t j = 0; j < h.cols(); ++j)
      sum += (double{w(r, i)} - what(r, i)) * h(i, j) * (double{w(r, j)} - what(r, j));
  return sum;
}

inline double loss_of(const MatrixF& w, const MatrixF& what, const MatrixD& h) {
  double sum = 0;
  for (std::size_t r = 0; r < w.rows(); ++r) sum += row_loss(w, what, h, r);
  return sum;
}

/// wbar_K = w H_:,K H_KK^-1, row by row.
inline MatrixF masked_least_squares(const MatrixF& w, const MatrixD& h, const Mask& mask) {
  MatrixF result(w.shape());
  for (std::size_t r = 0; r < w.rows(); ++r) {
    std::vector<std::size_t> kept;
    for (std::size_t c = 0; c < w.cols(); ++c)
      if (mask.kept(r, c)) kept.push_back(c);
    const auto n = static_cast<Eigen::Index>(kept.size());
    Eigen::MatrixXd a(n, n);
    Eigen::VectorXd b = Eigen::VectorXd::Zero(n);
    for (Eigen::Index i = 0; i < n; ++i) {
      for (Eigen::Index j = 0; j < n; ++j)
        a(i, j) = h(kept[static_cast<std::size_t>(i)], kept[static_cast<std::size_t>(j)]);
      for (std::size_t c = 0; c < w.cols(); ++c) b(i) += w(r, c) * h(c, kept[static_cast<std::size_t>(i)]);
    }
    const Eigen::VectorXd x = a.ldlt().solve(b);
    for (Eigen::Index i = 0; i < n; ++i) result(r, kept[static_cast<std::size_t>(i)]) = static_cast<float>(x(i));
  }
  return result;
}

inline Problem pruning_problem(const MatrixF& weights, const MatrixD& h, const char* sparsity,
                               std::shared_ptr<const Grid> grid = make_float_grid(DType::f16)) {
  Problem problem = make_problem(weights, h, std::move(grid));
  problem.pattern = SparsityPattern::parse(sparsity);
  return problem;
}

inline const Mask& mask_in(const Solution& solution) {
  return dynamic_cast<const SparseTensor&>(*solution.tensor).mask();
}

/// The columns of a row that are pruned.
inline std::vector<std::size_t> pruned_columns(const Mask& mask, std::size_t row) {
  std::vector<std::size_t> columns;
  for (std::size_t c = 0; c < mask.shape().cols; ++c)
    if (!mask.kept(row, c)) columns.push_back(c);
  return columns;
}

}  // namespace adze
