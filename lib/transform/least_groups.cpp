#include "transform/least_groups.h"

#include <algorithm>
#include <cassert>
#include <functional>
#include <limits>
#include <numeric>

#include "base/checked.h"
#include "base/error.h"
#include "base/parallel.h"
#include "linalg/factor.h"
#include "linalg/gemm.h"
#include "linalg/inverse.h"
#include "linalg/symmetric_update.h"
#include "metrics/proxy_loss.h"

namespace adze {
namespace {

constexpr std::size_t kPieceCols = 512;  // of products that threads share
constexpr std::size_t kPieceRows = 256;

/// a W in double.  a: [k x out], W: [out x in]; pieces of columns on all threads.
MatrixD product(const MatrixD& a, ConstViewF weights) {
  MatrixD result(a.rows(), weights.cols());
  parallel_for(divide_up(weights.cols(), kPieceCols), [&](std::size_t piece) {
    const std::size_t first = piece * kPieceCols;
    const std::size_t last = std::min(first + kPieceCols, weights.cols());
    for (std::size_t k = 0; k < a.rows(); ++k)
      for (std::size_t r = 0; r < weights.rows(); ++r)
        for (std::size_t c = first; c < last; ++c) result(k, c) += a(k, r) * static_cast<double>(weights(r, c));
  });
  return result;
}

/// The greedy elimination. What M = H^-1 and W have become once groups are dropped is M - V^T V and W - A^T V.
class Elimination {
 public:
  Elimination(ConstViewF weights, MatrixD inverse, std::size_t group, std::size_t most_cols)
      : weights_(weights),
        inverse_(std::move(inverse)),
        group_(group),
        v_(most_cols, weights.cols()),
        a_(most_cols, weights.rows()),
        live_(weights.cols() / group, true) {
    for (std::size_t g = 0; g < live_.size(); ++g) {
      blocks_.push_back(block_of(inverse_, g));
      energies_.push_back(energy_of(g));
    }
  }

  bool is_live(std::size_t g) const { return live_[g]; }

  /// tr(W_P M_PP^-1 W_P^T)
  double cost(std::size_t g) const {
    if (group_ == 1) return blocks_[g](0, 0) > 0 ? energies_[g](0, 0) / blocks_[g](0, 0) : 0;
    MatrixD inverse = blocks_[g];
    if (!invert(inverse)) return 0;  // nothing of it is left that the dropped ones did not say
    double sum = 0;
    for (std::size_t i = 0; i < group_; ++i)
      for (std::size_t j = 0; j < group_; ++j) sum += inverse(i, j) * energies_[g](j, i);
    return sum;
  }

  void drop(std::size_t g) {
    live_[g] = false;
    MatrixD lower = blocks_[g];
    if (!cholesky(lower)) return;
    const ViewD v_new = v_.view().row_range(count_, group_);
    const ViewD a_new = a_.view().row_range(count_, group_);
    for (std::size_t i = 0; i < group_; ++i) {
      const std::size_t p = g * group_ + i;
      std::vector<double> along(count_);
      for (std::size_t k = 0; k < count_; ++k) along[k] = v_(k, p);
      std::ranges::copy(inverse_.row(p), v_new.row(i).begin());
      subtract_weighted_rows(along, v_.view().row_range(0, count_), v_new.row(i));
      for (std::size_t r = 0; r < weights_.rows(); ++r) a_new(i, r) = static_cast<double>(weights_(r, p));
      subtract_weighted_rows(along, a_.view().row_range(0, count_), a_new.row(i));
    }
    solve_rows(lower, v_new);
    solve_rows(lower, a_new);
    update(v_new, a_new);
    count_ += group_;
  }

 private:
  MatrixD block_of(const MatrixD& m, std::size_t g) const {
    MatrixD block(group_, group_);
    for (std::size_t i = 0; i < group_; ++i)
      for (std::size_t j = 0; j < group_; ++j) block(i, j) = m(g * group_ + i, g * group_ + j);
    return block;
  }
  MatrixD energy_of(std::size_t g) const {  // W_P^T W_P
    MatrixD energy(group_, group_);
    for (std::size_t r = 0; r < weights_.rows(); ++r)
      for (std::size_t i = 0; i < group_; ++i)
        for (std::size_t j = 0; j < group_; ++j)
          energy(i, j) +=
              static_cast<double>(weights_(r, g * group_ + i)) * static_cast<double>(weights_(r, g * group_ + j));
    return energy;
  }

  /// Y := L^-1 Y
  void solve_rows(const MatrixD& lower, ViewD y) const {
    for (std::size_t i = 0; i < group_; ++i) {
      for (std::size_t k = 0; k < i; ++k)
        for (std::size_t c = 0; c < y.cols(); ++c) y(i, c) -= lower(i, k) * y(k, c);
      for (double& value : y.row(i)) value /= lower(i, i);
    }
  }

  /// Blocks of M and of W^T W after W := W - a^T v: with b = a W, W^T W -= v^T b + b^T v - v^T (a a^T) v.
  void update(ConstViewD v, ConstViewD a) {
    MatrixD fresh(a.shape());
    for (std::size_t i = 0; i < group_; ++i) std::ranges::copy(a.row(i), fresh.row(i).begin());
    MatrixD b = product(fresh, weights_);
    MatrixD across(group_, count_);  // a A^T
    MatrixD own(group_, group_);     // a a^T
    for (std::size_t i = 0; i < group_; ++i) {
      for (std::size_t k = 0; k < count_; ++k) across(i, k) = dot(a.row(i), a_.row(k));
      subtract_weighted_rows(across.row(i), v_.view().row_range(0, count_), b.row(i));
      for (std::size_t j = 0; j < group_; ++j) own(i, j) = dot(a.row(i), a.row(j));
    }
    for (std::size_t g = 0; g < live_.size(); ++g)
      if (live_[g]) update_group(g, v, b, own);
  }

  void update_group(std::size_t g, ConstViewD v, const MatrixD& b, const MatrixD& own) {
    const std::size_t first = g * group_;
    MatrixD own_v(group_, group_);
    multiply_nn(own, v.col_range(first, group_), own_v);
    for (std::size_t k = 0; k < group_; ++k)
      for (std::size_t i = 0; i < group_; ++i) {
        const double vi = v(k, first + i);
        const double bi = b(k, first + i);
        for (std::size_t j = 0; j < group_; ++j) {
          const double vj = v(k, first + j);
          blocks_[g](i, j) -= vi * vj;
          energies_[g](i, j) -= vi * b(k, first + j) + bi * vj - vi * own_v(k, j);
        }
      }
  }

  static double dot(std::span<const double> x, std::span<const double> y) {
    double sum = 0;
    for (std::size_t i = 0; i < x.size(); ++i) sum += x[i] * y[i];
    return sum;
  }

  ConstViewF weights_;
  MatrixD inverse_;
  std::size_t group_;
  MatrixD v_;  ///< [dropped columns x in]
  MatrixD a_;  ///< [dropped columns x out]
  std::size_t count_ = 0;
  std::vector<bool> live_;
  std::vector<MatrixD> blocks_;    ///< M_PP of each group
  std::vector<MatrixD> energies_;  ///< W_P^T W_P of each group
};

}  // namespace

std::vector<std::size_t> least_groups(ConstViewF weights, const MatrixD& h, std::size_t group,
                                      std::span<const std::size_t> quotas) {
  assert(h.rows() == weights.cols() && weights.cols() % group == 0);
  const std::size_t groups = weights.cols() / group;
  const std::size_t per_quota = groups / quotas.size();
  std::vector<std::size_t> left(quotas.begin(), quotas.end());
  std::size_t total = 0;
  for (const std::size_t quota : quotas) total += quota;
  MatrixD inverse = h;
  if (!invert(inverse)) fail(ErrorKind::bad_data, "H of the inputs is not positive definite");
  Elimination elimination(weights, std::move(inverse), group, total * group);
  std::vector<std::size_t> dropped;
  while (dropped.size() < total) {
    std::size_t best = groups;
    double least = std::numeric_limits<double>::infinity();
    for (std::size_t g = 0; g < groups; ++g) {
      if (!elimination.is_live(g) || left[g / per_quota] == 0) continue;
      const double cost = elimination.cost(g);
      if (best < groups && !(cost < least)) continue;
      least = cost;
      best = g;
    }
    elimination.drop(best);
    --left[best / per_quota];
    dropped.push_back(best);
  }
  return dropped;
}

std::vector<std::size_t> least_leverage(const MatrixD& h, double ridge, std::size_t count) {
  MatrixD inverse = with_damping(h, ridge);
  if (!invert(inverse)) fail(ErrorKind::bad_data, "H of the inputs is not positive definite");
  std::vector<std::size_t> order(h.rows());
  std::iota(order.begin(), order.end(), std::size_t{0});
  // H (H + r I)^-1 = I - r (H + r I)^-1
  std::ranges::stable_sort(order, std::greater{}, [&](std::size_t i) { return inverse(i, i); });
  order.resize(count);
  return order;
}

MatrixF repaired(ConstViewF weights, const MatrixD& across, MatrixD& inner) {
  MatrixD targets(weights.rows(), across.cols());
  parallel_for(divide_up(weights.rows(), kPieceRows), [&](std::size_t piece) {
    const std::size_t first = piece * kPieceRows;
    const std::size_t rows = std::min(kPieceRows, weights.rows() - first);
    MatrixD wide(rows, weights.cols());
    for (std::size_t r = 0; r < rows; ++r) std::ranges::copy(weights.row(first + r), wide.row(r).begin());
    multiply_nn(wide, across, targets.view().row_range(first, rows));
  });
  if (!solve_right(inner, targets)) fail(ErrorKind::bad_data, "H of the inputs is not positive definite");
  MatrixF result(targets.shape());
  std::ranges::transform(targets.values(), result.values().begin(), [](double v) { return static_cast<float>(v); });
  return result;
}

MatrixF repaired(ConstViewF weights, ConstViewD h, std::span<const std::size_t> kept) {
  MatrixD inner(kept.size(), kept.size());
  MatrixD across(h.rows(), kept.size());
  for (std::size_t k = 0; k < kept.size(); ++k) {
    for (std::size_t i = 0; i < kept.size(); ++i) inner(i, k) = h(kept[i], kept[k]);
    for (std::size_t i = 0; i < h.rows(); ++i) across(i, k) = h(i, kept[k]);
  }
  return repaired(weights, across, inner);
}

}  // namespace adze
