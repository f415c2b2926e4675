#include "solve/obq/obq.h"

#include <algorithm>
#include <atomic>

#include "base/parallel.h"
#include "linalg/inverse.h"
#include "solve/masks/least.h"
#include "solve/masks/masked_solver.h"
#include "solve/obq/elimination.h"
#include "solve/obq/greedy_rounding.h"
#include "solve/restore/restore.h"

namespace adze {
namespace {

/// What goes in every row, first to last.
std::vector<Elimination> eliminate_rows(ConstViewF weights, ConstViewD inverse, const EliminationRule& rule) {
  std::vector<Elimination> rows(weights.rows());
  // A few threads' worth of strips, each with one scratch; which row uses which changes nothing.
  const std::size_t strips = std::min<std::size_t>(weights.rows(), 4 * static_cast<std::size_t>(thread_count()));
  parallel_for(strips, [&](std::size_t s) {
    EliminationScratch scratch;
    for (std::size_t r = weights.rows() * s / strips; r < weights.rows() * (s + 1) / strips; ++r)
      rows[r] = eliminate(inverse, weights.row(r), rule, scratch);
  });
  return rows;
}

/// Takes the cheapest removals of all rows, each row's in its order: losses count as their running maximum, so that
/// what is taken of a row is a prefix (specification 3.3).
void prune_cheapest(const std::vector<Elimination>& rows, std::uint64_t count, std::size_t cols, Mask& mask) {
  const std::size_t per_row = rows.empty() ? 0 : rows.front().order.size();
  std::vector<float> losses;
  for (const Elimination& row : rows) {
    double largest = 0;
    for (const double loss : row.loss) losses.push_back(static_cast<float>(largest = std::max(largest, loss)));
  }
  for_least(losses, count,
            [&](std::size_t i) { mask.prune(i / per_row, rows[i / per_row].order[i % per_row] * cols, cols); });
}

Mask choose(ConstViewF weights, const SparsityPattern& pattern, const InputKnowledge& inputs) {
  EliminationRule rule;
  rule.group_cols = pattern.block_cols();
  const bool subsets = pattern.kind() == PatternKind::n_of_m;
  if (subsets) {
    rule.n = pattern.n();
    rule.m = pattern.m();
  }
  const std::vector<Elimination> rows = eliminate_rows(weights, inverse_of(inputs), rule);
  Mask mask(weights.shape());
  prune_cheapest(rows, pattern.zeros(weights.shape()) / rule.group_cols, rule.group_cols, mask);
  return mask;
}

bool round_rows_greedily(ConstViewF weights, const InputKnowledge& inputs, Encoding& encoding) {
  std::atomic<bool> inverted = true;
  parallel_for(weights.rows(), [&](std::size_t r) {
    std::vector<std::size_t> kept;
    for (std::size_t c = 0; c < weights.cols(); ++c)
      if (encoding.kept(r, c)) kept.push_back(c);
    MatrixD inverse(kept.size(), kept.size());
    for (std::size_t i = 0; i < kept.size(); ++i)
      for (std::size_t j = 0; j < kept.size(); ++j) inverse(i, j) = inputs.damped(kept[i], kept[j]);
    if (!kept.empty() && !invert(inverse)) {
      inverted = false;
      return;
    }
    round_greedily(inverse, weights.row(r), r, encoding);
  });
  return inverted;
}

double operations(const ProblemSize& size) {
  const auto n = static_cast<double>(size.inputs);
  return static_cast<double>(size.weights) / n * n * n * n / 2;
}

/// The inverse that rows share, and what each thread has of its own.
std::uint64_t scratch_bytes(const ProblemSize& size) {
  const std::uint64_t moment = std::uint64_t{size.inputs} * size.inputs * sizeof(double);
  const std::uint64_t row = std::max(moment, EliminationScratch::bytes(size.inputs, 1));
  return moment + static_cast<std::uint64_t>(thread_count()) * row;
}

}  // namespace

std::unique_ptr<Solver> configure_obq(MapReader& options) {
  const MaskedOptions read = read_masked_options(options, {});
  const ValueMaker values = [rule = read.scale_rule](ConstViewF weights, const std::optional<SparsityPattern>& pattern,
                                                     const InputKnowledge& inputs, Encoding& encoding) {
    MatrixF restored;
    if (pattern) {
      encoding.prune(*pattern, choose(weights, *pattern, inputs));
      restored = restore_kept(weights, inputs.damped, encoding.mask(), {200, 1e-6});
      weights = restored;
    }
    encoding.fit_all(weights, inputs.moments, rule);
    if (!encoding.grid().float_values()) return round_rows_greedily(weights, inputs, encoding);
    parallel_for(weights.rows(), [&](std::size_t r) { encoding.round_row(r, weights.row(r)); });
    return true;
  };
  MaskedMethod method{"obq", "", {}, values};
  method.extra_operations = &operations;
  method.extra_scratch = &scratch_bytes;
  return make_masked_solver(std::move(method), read);
}

}  // namespace adze
