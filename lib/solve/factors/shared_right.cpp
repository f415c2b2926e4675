#include "solve/factors/shared_right.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "linalg/eigen.h"
#include "linalg/gemm.h"
#include "linalg/inverse.h"
#include "solve/factors/low_rank.h"

namespace adze {
namespace {

using Pair = std::array<SharingLayer, 2>;

double energy(const MatrixD& weights, const MatrixD& h) {
  const MatrixD seen = times_moment(weights, h);
  double sum = 0;
  for (std::size_t i = 0; i < seen.values().size(); ++i) sum += seen.values()[i] * weights.values()[i];
  return sum;
}

MatrixD plus(MatrixD a, const MatrixD& b) {
  for (std::size_t i = 0; i < a.values().size(); ++i) a.values()[i] += b.values()[i];
  return a;
}

MatrixD stacked(const MatrixD& a, const MatrixD& b) {
  MatrixD all(a.rows() + b.rows(), a.cols());
  for (std::size_t r = 0; r < all.rows(); ++r)
    std::ranges::copy(r < a.rows() ? a.row(r) : b.row(r - a.rows()), all.row(r).begin());
  return all;
}

MatrixD symmetric(const MatrixD& a) {
  MatrixD half = plus(a, transposed(a));
  for (double& value : half.values()) value *= 0.5;
  return half;
}

/// L^-1 of A = L L^T; A is damped as far as it needs to be to have a factor.
MatrixD inverse_root(const MatrixD& a) {
  double mean = 0;
  for (std::size_t i = 0; i < a.rows(); ++i) mean += a(i, i) / static_cast<double>(a.rows());
  for (double damping = 1e-10; damping < 1; damping *= 100) {
    MatrixD lower = a;
    for (std::size_t i = 0; i < a.rows(); ++i) lower(i, i) += damping * mean;
    if (!cholesky(lower)) continue;
    for (std::size_t r = 0; r < a.rows(); ++r) std::ranges::fill(lower.row(r).subspan(r + 1), 0.0);
    MatrixD unit(a.rows(), a.rows());
    for (std::size_t i = 0; i < a.rows(); ++i) unit(i, i) = 1;
    if (solve_general(lower, unit)) return transposed(unit);  // rows solved L x = e_i: columns of L^-1
  }
  fail(ErrorKind::bad_data, "a second moment cannot be factored: it is zero, or far from positive");
}

/// The relative loss of a layer with its best left factor, which is left in `left`.
double fit_left(const SharingLayer& layer, const MatrixD& right, MatrixD& left) {
  left = MatrixD(layer.weights.rows(), right.rows());
  if (std::ranges::all_of(layer.h.values(), [](double value) { return value == 0; })) return 0;
  left = best_left(layer.weights, layer.h, right);
  MatrixD difference = product_nn(left, right);
  for (std::size_t i = 0; i < difference.values().size(); ++i)
    difference.values()[i] = layer.weights.values()[i] - difference.values()[i];
  return energy(difference, layer.h);
}

/// The R of least loss for given L_i: sum L_i^T L_i R H_i = sum L_i^T W_i H_i. With C^-1 H_2 C^-T = V diag(lambda) V^T,
/// H_1 = C C^T, and likewise mu and U of the L_i^T L_i, it is a division by 1 + mu lambda, element by element.
class RightFactors {
 public:
  explicit RightFactors(const Pair& layers) : layers_(layers) {
    const MatrixD whiten = inverse_root(layers[0].h);
    const SymmetricEigen eigen = symmetric_eigen(symmetric(product_nt(product_nn(whiten, layers[1].h), whiten)));
    lambda_ = eigen.values;
    inputs_ = product_nn(eigen.vectors, whiten);
    for (std::size_t i = 0; i < 2; ++i) seen_[i] = times_moment(layers[i].weights, layers[i].h);
  }

  MatrixD best(const std::array<MatrixD, 2>& left) const {
    const MatrixD root = inverse_root(product_tn(left[0], left[0]));
    const SymmetricEigen eigen =
        symmetric_eigen(symmetric(product_nt(product_nn(root, product_tn(left[1], left[1])), root)));
    const MatrixD ranks = product_nn(eigen.vectors, root);
    const MatrixD wanted = plus(product_tn(left[0], seen_[0]), product_tn(left[1], seen_[1]));
    MatrixD y = product_nt(product_nn(ranks, wanted), inputs_);
    for (std::size_t r = 0; r < y.rows(); ++r)
      for (std::size_t c = 0; c < y.cols(); ++c) y(r, c) /= 1 + std::max(0.0, eigen.values[r] * lambda_[c]);
    return product_tn(ranks, product_nn(y, inputs_));
  }

 private:
  const Pair& layers_;
  std::vector<double> lambda_;
  MatrixD inputs_;
  std::array<MatrixD, 2> seen_;
};

}  // namespace

SharedRight shared_right(Pair layers, std::size_t rank, int sweeps) {
  constexpr double kEnough = 1e-4;
  bool both_are_seen = true;
  for (SharingLayer& layer : layers) {
    const double all = energy(layer.weights, layer.h);
    for (double& value : layer.h.values()) value = all > 0 ? value / all : 0;  // nothing to fit: the other one decides
    both_are_seen = both_are_seen && all > 0;
  }
  const SharingLayer both{stacked(layers[0].weights, layers[1].weights), plus(layers[0].h, layers[1].h)};
  const std::size_t most = std::min({rank, both.weights.rows(), both.weights.cols()});
  SharedRight best;
  std::array<MatrixD, 2> left;
  const auto judge = [&](MatrixD right) {
    const std::array<double, 2> losses{fit_left(layers[0], right, left[0]), fit_left(layers[1], right, left[1])};
    const double before = best.losses[0] + best.losses[1], now = losses[0] + losses[1];
    const bool gains = best.right.empty() || now < before * (1 - kEnough);
    if (best.right.empty()) best.first_loss = now;
    if (best.right.empty() || now < before) {
      best.right = std::move(right);
      best.losses = losses;
    }
    return gains;
  };
  const MatrixD root = both.weights.rows() > both.weights.cols() ? moment_root(both.h) : MatrixD();
  judge(leading_factors(both.weights, output_spectrum(both.weights, both.h, root, most)).right);
  if (sweeps == 0 || !both_are_seen || !(best.first_loss > 0)) return best;
  const RightFactors factors(layers);
  for (int sweep = 0; sweep < sweeps; ++sweep)
    if (!judge(factors.best(left))) break;
  return best;
}

}  // namespace adze
