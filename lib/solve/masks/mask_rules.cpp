#include "solve/masks/mask_rules.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "base/error.h"
#include "base/parallel.h"
#include "linalg/inverse.h"
#include "solve/masks/least.h"

namespace adze {
namespace {

constexpr double kNormFloor = 1e-5;  // NoWag's, so that a row of zeros divides by something

/// Sums over groups of `cols` columns.
MatrixF grouped(const MatrixF& scores, std::size_t cols) {
  MatrixF sums(scores.rows(), scores.cols() / cols);
  for (std::size_t r = 0; r < sums.rows(); ++r)
    for (std::size_t g = 0; g < sums.cols(); ++g) {
      const auto group = scores.row(r).subspan(g * cols, cols);
      sums(r, g) = static_cast<float>(std::accumulate(group.begin(), group.end(), 0.0));
    }
  return sums;
}

void choose_subsets(const MatrixF& scores, const SparsityPattern& pattern, Mask& mask) {
  const std::size_t m = pattern.m();
  for (std::size_t r = 0; r < scores.rows(); ++r)
    for (std::size_t first = 0; first < scores.cols(); first += m)
      for_least(scores.row(r).subspan(first, m), m - pattern.n(), [&](std::size_t i) { mask.prune(r, first + i); });
}

/// Blocks of one column or more.
void choose_blocks(const MatrixF& scores, const SparsityPattern& pattern, Competition competition, Mask& mask) {
  const std::size_t cols = pattern.block_cols();
  const MatrixF sums = cols == 1 ? scores : grouped(scores, cols);
  const std::size_t per_row = sums.cols();
  if (competition == Competition::matrix)
    return for_least(sums.values(), pattern.pruned_of(sums.shape().count()),
                     [&](std::size_t i) { mask.prune(i / per_row, i % per_row * cols, cols); });
  for (std::size_t r = 0; r < sums.rows(); ++r)
    for_least(sums.row(r), pattern.pruned_of((r + 1) * per_row) - pattern.pruned_of(r * per_row),
              [&](std::size_t b) { mask.prune(r, b * cols, cols); });
}

}  // namespace

MatrixF magnitude_scores(ConstViewF weights) { return wanda_scores(weights, std::vector<float>(weights.cols(), 1.0f)); }

MatrixF wanda_scores(ConstViewF weights, std::span<const float> moments) {
  MatrixF scores(weights.shape());
  for (std::size_t r = 0; r < weights.rows(); ++r)
    for (std::size_t c = 0; c < weights.cols(); ++c) scores(r, c) = weights(r, c) * weights(r, c) * moments[c];
  return scores;
}

MatrixF nowag_scores(ConstViewF weights, std::span<const float> moments) {
  std::vector<double> squares(weights.cols());
  for (std::size_t r = 0; r < weights.rows(); ++r)
    for (std::size_t c = 0; c < weights.cols(); ++c) squares[c] += static_cast<double>(weights(r, c)) * weights(r, c);
  std::vector<double> inverse;
  for (const double square : squares) inverse.push_back(1 / (std::sqrt(square) + kNormFloor));
  MatrixF scores(weights.shape());
  for (std::size_t r = 0; r < weights.rows(); ++r) {
    double square = 0;
    for (std::size_t c = 0; c < weights.cols(); ++c) square += std::pow(weights(r, c) * inverse[c], 2);
    const double norm = std::sqrt(square) + kNormFloor;
    for (std::size_t c = 0; c < weights.cols(); ++c)
      scores(r, c) = static_cast<float>(std::pow(weights(r, c) * inverse[c] / norm, 2) * moments[c]);
  }
  return scores;
}

MatrixF block_scores(ConstViewF weights, ConstViewD inverse, std::size_t cols) {
  std::vector<MatrixD> factors;  // of [H^-1]_gg
  for (std::size_t first = 0; first < weights.cols(); first += cols) {
    MatrixD block(cols, cols);
    for (std::size_t i = 0; i < cols; ++i)
      for (std::size_t j = 0; j < cols; ++j) block(i, j) = inverse(first + i, first + j);
    if (!cholesky(block)) fail(ErrorKind::internal, "a diagonal block of an inverse is not positive definite");
    factors.push_back(std::move(block));
  }
  MatrixF scores(weights.shape());
  parallel_for(weights.rows(), [&](std::size_t r) {
    std::vector<double> group(cols);
    for (std::size_t g = 0; g < factors.size(); ++g) {
      for (std::size_t i = 0; i < cols; ++i) group[i] = weights(r, g * cols + i);
      solve_lower(factors[g], group);
      const double cost = std::inner_product(group.begin(), group.end(), group.begin(), 0.0);
      std::ranges::fill(scores.row(r).subspan(g * cols, cols), static_cast<float>(cost / static_cast<double>(cols)));
    }
  });
  return scores;
}

Mask choose_mask(const MatrixF& scores, const SparsityPattern& pattern, Competition competition) {
  Mask mask(scores.shape());
  if (pattern.kind() == PatternKind::n_of_m) {
    choose_subsets(scores, pattern, mask);
  } else if (pattern.kind() == PatternKind::rows) {
    const MatrixF sums = grouped(scores, scores.cols());
    for_least(sums.values(), pattern.pruned_of(scores.rows()), [&](std::size_t r) { mask.prune(r, 0, scores.cols()); });
  } else {
    choose_blocks(scores, pattern, competition, mask);
  }
  return mask;
}

}  // namespace adze
