#include "solve/obq/elimination.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/checked.h"
#include "linalg/symmetric_update.h"

namespace adze {
namespace {

constexpr std::size_t kPending = EliminationScratch::kPending;
constexpr double kFloor = 1e-12;  // of the diagonal entry at the start; rounding errors of n downdates are below it
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// An odd number of cache lines, so that the entries of a column spread over all sets of the caches.
std::size_t row_stride(std::size_t cols) { return (divide_up(cols, 8) | 1) * 8; }

/// How many columns or groups the rule lets go.
std::size_t removals(std::size_t cols, const EliminationRule& rule) {
  const std::size_t possible = rule.m > 0 ? cols / rule.m * (rule.m - rule.n) : cols / rule.group_cols;
  return rule.most == 0 ? possible : std::min(rule.most, possible);
}

class Row {
 public:
  Row(ConstViewD inverse, std::span<const float> weights, const EliminationRule& rule, EliminationScratch& scratch)
      : rule_(rule), group_(rule.group_cols), size_(weights.size()), s_(scratch) {
    s_.resize(size_, group_);
    for (std::size_t r = 0; r < size_; ++r) std::copy_n(inverse.row(r).data(), r + 1, s_.stored.row(r).data());
    for (std::size_t p = 0; p < size_; ++p)
      std::copy_n(inverse.row(p).data() + p / group_ * group_, group_, s_.blocks.row(p).data());
    for (std::size_t p = 0; p < size_; ++p) s_.floor[p] = kFloor * inverse(p, p);
    std::ranges::copy(weights, s_.weights.begin());
    std::ranges::fill(s_.bar, 0.0);
    std::iota(s_.column.begin(), s_.column.end(), 0u);
    std::iota(s_.position.begin(), s_.position.end(), 0u);
    std::ranges::fill(s_.zeros, 0u);
  }

  Elimination run() {
    const std::size_t count = removals(size_, rule_);
    Elimination result;
    result.order.reserve(count);
    result.loss.reserve(count);
    while (result.order.size() < count) {
      if (pending_ + group_ > kPending) settle();
      const std::size_t first = group_ == 1 ? cheapest_column() : cheapest_group();
      if (first == size_) break;  // no score is finite
      double loss = 0;
      // The block's Cholesky factor is what columns removed one after the other give (specification 3.4).
      for (std::size_t k = 0; k < group_; ++k) loss += remove(first + k);
      for (std::size_t k = 0; k < group_; ++k) s_.bar[first + k] = kInfinity;
      if (rule_.m > 0) count_zero(s_.column[first]);
      result.order.push_back(s_.column[first] / static_cast<std::uint32_t>(group_));
      result.loss.push_back(loss);
    }
    return result;
  }

 private:
  /// size_ when there is none.
  std::size_t cheapest_column() const {
    const double* w = s_.weights.data();
    const double* diagonal = s_.blocks.data();
    const double* bar = s_.bar.data();
    std::size_t best = size_;
    double least = kInfinity;
    for (std::size_t p = 0; p < size_; ++p) {
      const double score = w[p] * w[p] / diagonal[p] + bar[p];
      if (score < least || (score == least && best < size_ && s_.column[p] < s_.column[best])) {
        least = score;
        best = p;
      }
    }
    return best;
  }

  /// First position of the group; size_ when there is none.
  std::size_t cheapest_group() const {
    std::size_t best = size_;
    double least = kInfinity;
    for (std::size_t p = 0; p < size_; p += group_) {
      if (s_.bar[p] > 0) continue;
      const double score = group_score(p);
      if (score < least || (score == least && best < size_ && s_.column[p] < s_.column[best])) {
        least = score;
        best = p;
      }
    }
    return best;
  }

  /// w_g ([M]_gg)^-1 w_g^T = |L^-1 w_g|^2 with the Cholesky factor L of the block at `first`.
  double group_score(std::size_t first) const {
    std::array<double, kPending * kPending> factor;
    std::array<double, kPending> y;
    double score = 0;
    for (std::size_t i = 0; i < group_; ++i) {
      double* row = factor.data() + i * group_;
      double rest = s_.weights[first + i];
      double pivot = s_.blocks(first + i, i);
      for (std::size_t j = 0; j < i; ++j) {
        const double* other = factor.data() + j * group_;
        double sum = s_.blocks(first + i, j);
        for (std::size_t k = 0; k < j; ++k) sum -= row[k] * other[k];
        row[j] = sum * other[j];  // the diagonal holds 1 / L_jj
        rest -= row[j] * y[j];
        pivot -= row[j] * row[j];
      }
      row[i] = 1 / std::sqrt(std::max(pivot, s_.floor[first + i]));
      y[i] = rest * row[i];
      score += y[i] * y[i];
    }
    return score;
  }

  /// Takes the column at p out of w and M; returns the loss.
  double remove(std::size_t p) {
    const std::span<double> v = s_.pending.row(pending_).first(size_);
    copy_stored_row(p, v);
    const std::span<double> a(s_.coefficients.data(), pending_);
    for (std::size_t i = 0; i < pending_; ++i) a[i] = s_.pending(i, p);
    subtract_weighted_rows(a, pending_rows(), v);
    const double scale = 1 / std::sqrt(s_.blocks(p, p % group_));
    const double error = s_.weights[p] * scale;
    for (std::size_t c = 0; c < size_; ++c) {
      v[c] *= scale;
      s_.weights[c] -= error * v[c];
    }
    ++pending_;
    downdate_blocks(v);
    return error * error;
  }

  void copy_stored_row(std::size_t p, std::span<double> row) const {
    std::copy_n(s_.stored.row(p).data(), p + 1, row.data());
    const std::size_t stride = s_.stored.cols();
    const double* below = s_.stored.data() + p;
    for (std::size_t r = p + 1; r < size_; ++r) row[r] = below[r * stride];
  }

  void downdate_blocks(std::span<const double> v) {
    double* row = s_.blocks.data();
    for (std::size_t p = 0; p < size_; ++p, row += group_) {
      const std::size_t inner = p % group_;
      const double* block = v.data() + (p - inner);
      for (std::size_t k = 0; k <= inner; ++k) row[k] -= v[p] * block[k];
      row[inner] = std::max(row[inner], s_.floor[p]);
    }
  }

  /// A column of zero's m neighbours; when they have lost all that they may, the rest is never looked at again.
  void count_zero(std::size_t col) {
    if (++s_.zeros[col / rule_.m] < rule_.m - rule_.n) return;
    const std::size_t first = col / rule_.m * rule_.m;
    for (std::size_t c = first; c < first + rule_.m; ++c) {
      const std::size_t p = s_.position[c];  // of a column that left the matrix: where it was last
      if (p < size_ && s_.column[p] == c) s_.bar[p] = kInfinity;
    }
  }

  /// Takes what is pending off `stored`, for the columns that may still go; the others leave the matrix.
  void settle() {
    const std::size_t left = plan_moves();
    move_stored(left);
    for (const auto [from, to] : s_.moves) {
      for (std::size_t i = 0; i < pending_; ++i) s_.pending(i, to) = s_.pending(i, from);
      std::ranges::copy(s_.blocks.row(from), s_.blocks.row(to).begin());
      s_.weights[to] = s_.weights[from];
      s_.floor[to] = s_.floor[from];
      s_.bar[to] = s_.bar[from];
      s_.column[to] = s_.column[from];
      s_.position[s_.column[to]] = static_cast<std::uint32_t>(to);
    }
    size_ = left;
    subtract_outer_products(pending_rows(), stored_view());
    pending_ = 0;
  }

  /// Which columns fill the places of those that left, whole groups by whole groups; returns how many there are then.
  std::size_t plan_moves() {
    s_.moves.clear();
    std::size_t to = 0;
    std::size_t end = size_;
    for (;;) {
      while (to < end && s_.bar[to] == 0) to += group_;
      while (to < end && s_.bar[end - group_] > 0) end -= group_;
      if (to == end) return end;
      end -= group_;
      for (std::size_t k = 0; k < group_; ++k) s_.moves.push_back({end + k, to + k});
      to += group_;
    }
  }

  /// M's entries of the moved columns, in the first `left` rows. A pass over rows and not over columns, which would
  /// touch a page per entry.
  void move_stored(std::size_t left) {
    MatrixD& m = s_.stored;
    for (const auto [from, to] : s_.moves)  // so that entries between two that move are found in their old rows
      for (const auto [other_from, other_to] : s_.moves)
        m(from, other_to) = m(std::max(from, other_from), std::min(from, other_from));
    for (const auto [from, to] : s_.moves) std::copy_n(m.row(from).data(), to + 1, m.row(to).data());
    for (std::size_t r = 0; r < left; ++r)
      for (const auto [from, to] : s_.moves) {
        if (r > to) m(r, to) = m(from, r);
      }
  }

  ConstViewD pending_rows() const { return {s_.pending.data(), {pending_, size_}, s_.pending.cols()}; }
  ViewD stored_view() { return {s_.stored.data(), {size_, size_}, s_.stored.cols()}; }

  const EliminationRule rule_;
  const std::size_t group_;
  std::size_t size_;  ///< positions in use
  std::size_t pending_ = 0;
  EliminationScratch& s_;
};

}  // namespace

std::uint64_t EliminationScratch::bytes(std::size_t cols, std::size_t group_cols) {
  const std::uint64_t per_col = (group_cols + 3) * sizeof(double) + 3 * sizeof(std::uint32_t) + sizeof(Move);
  return (std::uint64_t{cols} + kPending) * row_stride(cols) * sizeof(double) + cols * per_col +
         kPending * sizeof(double);
}

void EliminationScratch::resize(std::size_t cols, std::size_t group_cols) {
  if (stored.rows() != cols) {
    stored = MatrixD(cols, row_stride(cols));
    pending = MatrixD(kPending, row_stride(cols));
  }
  if (blocks.shape() != Shape{cols, group_cols}) blocks = MatrixD(cols, group_cols);
  for (auto* values : {&weights, &floor, &bar}) values->resize(cols);
  for (auto* values : {&column, &position, &zeros}) values->resize(cols);
  coefficients.resize(kPending);
}

Elimination eliminate(ConstViewD inverse, std::span<const float> weights, const EliminationRule& rule,
                      EliminationScratch& scratch) {
  assert(inverse.rows() == weights.size() && inverse.cols() == weights.size());
  assert(rule.group_cols >= 1 && rule.group_cols <= kPending && weights.size() % rule.group_cols == 0);
  assert(rule.m == 0 || (rule.group_cols == 1 && 0 < rule.n && rule.n < rule.m && weights.size() % rule.m == 0));
  return Row(inverse, weights, rule, scratch).run();
}

}  // namespace adze
