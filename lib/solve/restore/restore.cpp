#include "solve/restore/restore.h"

#include <algorithm>
#include <vector>

#include "base/checked.h"
#include "base/parallel.h"
#include "linalg/gemm.h"

namespace adze {
namespace {

constexpr std::size_t kTileRows = 128;  // fixed, as everywhere: products have shapes of the problem

double dot(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

/// y += a x
void add_scaled(double a, std::span<const float> x, std::span<float> y) {
  const auto factor = static_cast<float>(a);
  for (std::size_t i = 0; i < x.size(); ++i) y[i] += factor * x[i];
}

/// One tile of rows. Names as in the specification: Z the solution, P the directions, Res the residual on the mask.
class Tile {
 public:
  /// out: `start` on entry.
  Tile(ConstViewF target, const MatrixF& hessian, const Mask& free, std::size_t first_row, MatrixF& out)
      : target_(target),
        h_(hessian),
        first_row_(first_row),
        rows_(std::min(kTileRows, target.rows() - first_row)),
        free_(kTileRows, target.cols()),
        residual_(kTileRows, target.cols()),
        direction_(kTileRows, target.cols()),
        product_(kTileRows, target.cols()),
        out_(out),
        energy_(rows_),
        slope_(rows_) {
    for (std::size_t r = 0; r < rows_; ++r)
      for (std::size_t c = 0; c < target.cols(); ++c) free_(r, c) = free.kept(first_row + r, c) ? 1.0f : 0.0f;
  }

  void run(const RestoreOptions& options) {
    begin(options.tolerance);
    for (int i = 0; i < options.iterations; ++i)
      if (!iterate()) break;
  }

 private:
  void begin(double tolerance) {
    for (std::size_t r = 0; r < rows_; ++r) std::ranges::copy(target_.row(first_row_ + r), direction_.row(r).begin());
    multiply_nn(direction_, h_, product_);
    for (std::size_t r = 0; r < rows_; ++r) energy_[r] = tolerance * tolerance * dot(product_.row(r), product_.row(r));
    for (std::size_t r = 0; r < rows_; ++r)
      for (std::size_t c = 0; c < h_.cols(); ++c) direction_(r, c) -= out_(first_row_ + r, c);
    multiply_nn(direction_, h_, residual_);
    for (std::size_t r = 0; r < rows_; ++r) {
      for (std::size_t c = 0; c < h_.cols(); ++c) residual_(r, c) *= free_(r, c);
      std::ranges::fill(direction_.row(r), 0.0f);
      slope_[r] = redirect(r, 0);
    }
  }

  /// P = Res / diag(H) + beta P; the new Res . Y.
  double redirect(std::size_t r, double beta) {
    const auto factor = static_cast<float>(beta);
    double slope = 0;
    for (std::size_t c = 0; c < h_.cols(); ++c) {
      const float preconditioned = residual_(r, c) / h_(c, c);
      slope += static_cast<double>(residual_(r, c)) * preconditioned;
      direction_(r, c) = preconditioned + factor * direction_(r, c);
    }
    return slope;
  }

  /// False when every row is done.
  bool iterate() {
    multiply_nn(direction_, h_, product_);
    bool any = false;
    for (std::size_t r = 0; r < rows_; ++r) {
      const std::span<float> residual = residual_.row(r);
      if (dot(residual, residual) <= energy_[r]) {
        std::ranges::fill(direction_.row(r), 0.0f);
        continue;
      }
      for (std::size_t c = 0; c < h_.cols(); ++c) product_(r, c) *= free_(r, c);
      const double curvature = dot(direction_.row(r), product_.row(r));
      if (!(curvature > 0)) continue;
      any = true;
      const double step = slope_[r] / curvature;
      add_scaled(step, direction_.row(r), out_.row(first_row_ + r));
      add_scaled(-step, product_.row(r), residual);
      const double before = slope_[r];
      double after = 0;
      for (std::size_t c = 0; c < h_.cols(); ++c) after += static_cast<double>(residual[c]) * residual[c] / h_(c, c);
      slope_[r] = redirect(r, after / before);
    }
    return any;
  }

  ConstViewF target_;
  const MatrixF& h_;
  std::size_t first_row_;
  std::size_t rows_;
  MatrixF free_;
  MatrixF residual_;
  MatrixF direction_;
  MatrixF product_;
  MatrixF& out_;
  std::vector<double> energy_;  ///< squared norm of the residual at which a row is done
  std::vector<double> slope_;   ///< Res . Y
};

}  // namespace

MatrixF least_squares(ConstViewF target, ConstViewF start, const MatrixF& hessian, const Mask& free,
                      const RestoreOptions& options) {
  assert(target.shape() == start.shape() && target.shape() == free.shape());
  MatrixF solution(target.shape());
  for (std::size_t r = 0; r < start.rows(); ++r) std::ranges::copy(start.row(r), solution.row(r).begin());
  parallel_for(divide_up(target.rows(), kTileRows),
               [&](std::size_t t) { Tile(target, hessian, free, t * kTileRows, solution).run(options); });
  return solution;
}

MatrixF restore_kept(ConstViewF weights, const MatrixF& hessian, const Mask& mask, const RestoreOptions& options) {
  MatrixF start(weights.shape());
  for (std::size_t r = 0; r < weights.rows(); ++r)
    for (std::size_t c = 0; c < weights.cols(); ++c)
      if (mask.kept(r, c)) start(r, c) = weights(r, c);
  return least_squares(weights, start, hessian, mask, options);
}

}  // namespace adze
