#include "solve/rows/rows.h"

#include <atomic>
#include <vector>

#include "base/parallel.h"
#include "linalg/factor.h"

namespace adze {
namespace {

/// One row; names as in solve/gptq/feedback.h, over the kept columns only.
class Row {
 public:
  Row(ConstViewF weights, const MatrixF& hessian, std::size_t row, ScaleRule rule, Encoding& encoding)
      : weights_(weights.row(row)), row_(row), rule_(rule), encoding_(encoding) {
    for (std::size_t c = 0; c < weights_.size(); ++c)
      if (encoding.kept(row, c)) kept_.push_back(c);
    r_ = MatrixD(kept_.size(), kept_.size());
    for (std::size_t i = 0; i < kept_.size(); ++i)
      for (std::size_t j = 0; j < kept_.size(); ++j) r_(i, j) = hessian(kept_[i], kept_[j]);
    factored_ = kept_.empty() || !reverse_cholesky(r_);
    feedback_.resize(kept_.size());
  }

  /// False when there is no factor: rounding is then without feedback.
  bool run(bool fixed_scales) {
    const std::size_t unit_cols = encoding_.unit_cols();
    std::size_t position = 0;  // in kept_
    for (std::size_t first = 0; first < weights_.size(); first += unit_cols) {
      std::size_t end = position;
      while (end < kept_.size() && kept_[end] < first + unit_cols) ++end;
      if (!fixed_scales) fit(first / unit_cols, position, end);
      for (std::size_t c = first; c < first + unit_cols; ++c) {
        const bool kept = position < end && kept_[position] == c;
        if (kept)
          round(position++);
        else
          encoding_.round_at(row_, c, 0);
      }
    }
    return factored_;
  }

 private:
  double pivot(std::size_t p) const { return factored_ ? r_(p, p) : 1.0; }

  void round(std::size_t p) {
    const double weight = weights_[kept_[p]];
    const double target = weight + (factored_ ? feedback_[p] / r_(p, p) : 0.0);
    const double error = weight - encoding_.round_at(row_, kept_[p], static_cast<float>(target));
    if (!factored_) return;
    for (std::size_t j = p + 1; j < kept_.size(); ++j) feedback_[j] += error * r_(p, j);
  }

  /// Fits a unit to its kept weights, positions [begin, end), as feedback has moved them: W_g + S_g R_gg^-1.
  void fit(std::size_t unit, std::size_t begin, std::size_t end) {
    const std::size_t cols = encoding_.unit_cols();
    std::vector<float> moved(cols);
    std::vector<float> importance(cols);
    std::vector<double> shift(end - begin);
    for (std::size_t p = begin; p < end; ++p) {
      double sum = feedback_[p];
      for (std::size_t i = begin; i < p && factored_; ++i) sum -= shift[i - begin] * r_(i, p);
      shift[p - begin] = sum / pivot(p);
      moved[kept_[p] - unit * cols] = static_cast<float>(weights_[kept_[p]] + shift[p - begin]);
      importance[kept_[p] - unit * cols] = static_cast<float>(pivot(p) * pivot(p));
    }
    encoding_.fit_unit(row_, unit, moved, importance, rule_);
  }

  std::span<const float> weights_;
  std::size_t row_;
  ScaleRule rule_;
  Encoding& encoding_;
  std::vector<std::size_t> kept_;
  MatrixD r_;  ///< upper triangular, R R^T = H_KK
  bool factored_ = false;
  std::vector<double> feedback_;  ///< sum of d_i R_ij over the positions before
};

}  // namespace

bool round_rows(ConstViewF weights, const MatrixF& hessian, ScaleRule scale_rule, bool fixed_scales,
                Encoding& encoding) {
  std::atomic<bool> factored = true;
  parallel_for(weights.rows(), [&](std::size_t r) {
    if (!Row(weights, hessian, r, scale_rule, encoding).run(fixed_scales)) factored = false;
  });
  return factored;
}

double row_operations(std::size_t rows, std::size_t cols) {
  const double kept = static_cast<double>(cols) / 2;
  return static_cast<double>(rows) * kept * kept * kept / 3;
}

}  // namespace adze
