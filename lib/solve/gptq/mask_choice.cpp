#include "solve/gptq/mask_choice.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <numeric>

#include "base/parallel.h"
#include "linalg/factor.h"
#include "solve/masks/least.h"

namespace adze {
namespace {

constexpr std::size_t kMostEnumerated = 4;  // m of masks whose subsets are all tried

/// What is lost when of a group with weights w those without a bit in `kept` go, each made up for by the columns after
/// it: e_j = w_j / U_jj of a pruned one, w_k -= e_j U_jk; U = (R_gg)^-1, row-major (specification 5.2).
float subset_loss(std::span<const float> u, std::span<const float> w, std::uint32_t kept) {
  const std::size_t m = w.size();
  std::array<float, kMostEnumerated> left{};
  std::ranges::copy(w, left.begin());
  float loss = 0;
  for (std::size_t j = 0; j < m; ++j) {
    if ((kept >> j & 1) != 0) continue;
    const float e = left[j] / u[j * m + j];
    loss += e * e;
    for (std::size_t k = j + 1; k < m; ++k) left[k] -= e * u[j * m + k];
  }
  return loss;
}

/// The subset of least loss.
std::uint32_t best_subset(std::span<const float> inverse, std::span<const float> weights, std::size_t n) {
  std::uint32_t best = 0;
  float least = std::numeric_limits<float>::infinity();
  for (std::uint32_t kept = 0; kept < 1u << weights.size(); ++kept) {
    if (static_cast<std::size_t>(std::popcount(kept)) != n) continue;
    const float loss = subset_loss(inverse, weights, kept);
    if (best != 0 && !(loss < least)) continue;
    least = loss;
    best = kept;
  }
  return best;
}

}  // namespace

SubsetChoice::SubsetChoice(const GptqFactor& factor, std::size_t m, bool enumerate) : factor_(&factor) {
  if (!enumerate || m > kMostEnumerated) return;
  inverses_.resize(factor.r.rows() * m);
  for (std::size_t first = 0; first + m <= factor.r.rows(); first += m) {
    MatrixF inverse(m, m);  // Y of R_gg^T Y = I: the inverse, transposed
    for (std::size_t i = 0; i < m; ++i) inverse(i, i) = 1;
    solve_transposed_upper(factor.r.view().row_range(first, m).col_range(first, m), inverse);
    for (std::size_t i = 0; i < m; ++i)
      for (std::size_t j = 0; j < m; ++j) inverses_[(first + i) * m + j] = inverse(j, i);
  }
}

std::uint32_t SubsetChoice::choose(std::size_t position, std::span<const float> weights, std::size_t n) const {
  const std::size_t m = weights.size();
  if (!inverses_.empty()) return best_subset(std::span(inverses_).subspan(position * m, m * m), weights, n);
  std::array<std::size_t, SparsityPattern::kLargestM> indices{};
  const auto by_score = std::span(indices).first(m);
  std::iota(by_score.begin(), by_score.end(), std::size_t{0});
  const auto score = [&](std::size_t i) {
    return weights[i] * weights[i] * factor_->importance[factor_->order[position + i]];
  };
  std::ranges::stable_sort(by_score, [&](std::size_t a, std::size_t b) { return score(a) > score(b); });
  std::uint32_t kept = 0;
  for (std::size_t i = 0; i < n; ++i) kept |= std::uint32_t{1} << by_score[i];
  return kept;
}

void prune_least(const MatrixF& scores, std::uint64_t count, std::span<const std::size_t> columns, Mask& mask) {
  const std::size_t cols = columns.size();
  if (count == 0) return;
  std::vector<float> all(scores.rows() * cols);
  const auto row = [&](std::size_t r) { return std::span(all).subspan(r * cols, cols); };
  parallel_for(scores.rows(), [&](std::size_t r) {
    std::ranges::copy(scores.row(r).first(cols), row(r).begin());
    make_comparable(row(r));
  });
  const LeastScores least = find_least(all, count);
  std::vector<std::uint64_t> equal(scores.rows());  // how many of those equal to the last one go, row by row
  parallel_for(scores.rows(),
               [&](std::size_t r) { equal[r] = static_cast<std::uint64_t>(std::ranges::count(row(r), least.score)); });
  std::uint64_t left = least.equal;
  for (std::uint64_t& of_row : equal) {
    of_row = std::min(of_row, left);
    left -= of_row;
  }
  parallel_for(scores.rows(), [&](std::size_t r) {
    for (std::size_t j = 0; j < cols; ++j) {
      const float score = row(r)[j];
      if (score > least.score || (score == least.score && equal[r] == 0)) continue;
      if (score == least.score) --equal[r];
      mask.prune(r, columns[j]);
    }
  });
}

}  // namespace adze
