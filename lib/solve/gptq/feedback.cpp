#include "solve/gptq/feedback.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <utility>

#include "base/checked.h"
#include "base/parallel.h"
#include "linalg/accumulate.h"
#include "linalg/convert.h"
#include "linalg/factor.h"
#include "linalg/gemm.h"
#include "solve/columns.h"

namespace adze {
namespace {

constexpr std::size_t kStepCols = 128;   // GPTQ's lazy block
constexpr std::size_t kBlockCols = 256;  // as wide as makes BLAS copy little beside what it computes
constexpr std::size_t kPanelRows = 64;   // lanes of the inner loops: what they touch of a step stays in the L1 cache
constexpr std::size_t kPanels = kFeedbackRows / kPanelRows;

MatrixF near_coefficients(const MatrixF& r, std::size_t block, std::size_t step) {
  MatrixF near(r.rows(), step);
  for (std::size_t p = 0; p < r.rows(); ++p) {
    const std::size_t first = p - p % block % step;
    for (std::size_t i = first; i < p; ++i) near(p, i - first) = r(i, p);
  }
  return near;
}

constexpr std::size_t kMaskCols = 128;  // columns whose mask is chosen together (SparseGPT's Bs)

/// One block of columns of kPanelRows rows, transposed: row j belongs to the block's column j.
struct Panel {
  MatrixF weights;
  MatrixF feedback;  ///< S_j = sum of d_i R_ij over the columns i whose errors have reached j
  MatrixF errors;    ///< d_j = w_j - value_j
  MatrixF kept;      ///< 1 or, where the weight is pruned, 0; empty where nothing is
  Matrix<std::int16_t> codes;

  Panel(std::size_t cols, bool prunes)
      : weights(cols, kPanelRows),
        feedback(cols, kPanelRows),
        errors(cols, kPanelRows),
        kept(prunes ? cols : 0, kPanelRows),
        codes(cols, kPanelRows) {}
};

class Tile {
 public:
  Tile(const FeedbackPlan& plan, ConstViewF weights, std::size_t first_row, Encoding& encoding)
      : plan_(plan),
        order_(plan.factor.order),
        r_(plan.factor.r.view()),
        weights_(weights),
        encoding_(encoding),
        first_row_(first_row),
        rows_(std::min(kFeedbackRows, weights.rows() - first_row)),
        unit_cols_(encoding.unit_cols()),
        step_cols_(encoding.step_cols()),
        prunes_(!encoding.mask().empty()),
        group_cols_(plan.chooses && plan.chooses->kind() == PatternKind::n_of_m ? plan.chooses->m() : 0),
        errors_(kFeedbackRows, weights.cols()),
        feedback_(kFeedbackRows, std::min(plan.block, weights.cols())),
        panels_(kPanels, Panel(feedback_.cols(), prunes_)),
        padding_(weights.cols()),
        steps_(encoding, first_row, rows_, kFeedbackRows) {
    if (plan.fixed_scales) steps_.load(0, weights.cols() / step_cols_);
  }

  /// Makes the columns from `first` on the block, and passes the errors of all columns before on to them.
  void begin_block(std::size_t first) {
    first_ = first;
    count_ = std::min(plan_.block, weights_.cols() - first);
    if (first_ > 0)
      multiply_nn(errors_.view().col_range(0, first_), r_.row_range(0, first_).col_range(first_, count_),
                  feedback_.view().col_range(0, count_));
  }

  void run_block() {
    for (lane_ = 0; lane_ < kFeedbackRows; lane_ += kPanelRows) {
      Panel& panel = panels_[lane_ / kPanelRows];
      load(panel);
      for (std::size_t at = 0; at < count_; at += plan_.step) run_step(panel, at, std::min(plan_.step, count_ - at));
      store(panel);
    }
  }

  /// What removing each weight of the block would cost: w^2 R_jj^2, w as feedback has moved it; nothing for dead
  /// inputs. scores: [out x block], of which this tile's rows are written.
  void score_block(MatrixF& scores) {
    for (lane_ = 0; lane_ < rows_; lane_ += kPanelRows) {
      Panel& panel = panels_[lane_ / kPanelRows];
      load(panel);
      const MatrixF moved = moved_by_feedback(panel, 0, count_);
      transpose_rows(std::min(kPanelRows, rows_ - lane_), count_, [&](std::size_t j, std::size_t r) {
        const float weight = panel.weights(j, r) + moved(j, r);
        scores(first_row_ + lane_ + r, j) = weight * weight * plan_.factor.importance[order_[first_ + j]];
      });
    }
  }

  const FeedbackResult& result() const { return result_; }

 private:
  void run_step(Panel& panel, std::size_t at, std::size_t width) {
    if (at > 0)
      multiply_tn(r_.row_range(first_, at).col_range(first_ + at, width), panel.errors.view().row_range(0, at),
                  panel.feedback.view().row_range(at, width), true);
    // Errors of the step's columns before `unit_reached` are in the feedback of the whole unit, before `reached` in that
    // of the present column.
    std::size_t unit_reached = at;
    std::size_t reached = at;
    const auto reach_all = [&](std::size_t from, std::size_t j, std::size_t cols) {
      for (std::size_t i = j; i < std::min(j + cols, at + width); ++i) reach(panel, at, from, j, i);
      reached = j;
    };
    for (std::size_t j = at; j < at + width; ++j) {
      const bool unit_begins = !plan_.fixed_scales && (first_ + j) % unit_cols_ == 0;
      const bool group_begins = group_cols_ > 0 && (first_ + j) % group_cols_ == 0;
      if (unit_begins) {
        reach_all(at, j, unit_cols_);
        unit_reached = j;
        begin_unit(panel, j);
      } else if (group_begins) {
        reach_all(unit_reached, j, group_cols_);
        choose_groups(panel, j, moved_by_feedback(panel, j, group_cols_));
      } else {
        reach(panel, at, reached, j, j);
      }
      round_column(panel, j);
    }
  }

  /// Passes the errors of columns [from, to) on to column j of the step that begins at `at`.
  void reach(Panel& panel, std::size_t at, std::size_t from, std::size_t to, std::size_t j) {
    accumulate_rows(plan_.near.row(first_ + j).subspan(from - at, to - from),
                    panel.errors.view().row_range(from, to - from), panel.feedback.row(j));
  }

  void load(Panel& panel) {
    std::array<const float*, kPanelRows> weights;
    for (std::size_t r = 0; r < kPanelRows; ++r)
      weights[r] = lane_ + r < rows_ ? weights_.row(first_row_ + lane_ + r).data() : padding_.data();
    transpose_rows(kPanelRows, count_, [&](std::size_t j, std::size_t r) {
      panel.weights(j, r) = weights[r][order_[first_ + j]];
      panel.feedback(j, r) = first_ > 0 ? feedback_(lane_ + r, j) : 0.0f;
    });
    if (prunes_) load_mask(panel, 0, count_);
  }

  void load_mask(Panel& panel, std::size_t at, std::size_t cols) {
    transpose_rows(std::min(kPanelRows, rows_ - std::min(rows_, lane_)), cols, [&](std::size_t j, std::size_t r) {
      panel.kept(at + j, r) = encoding_.mask().kept(first_row_ + lane_ + r, order_[first_ + at + j]) ? 1.0f : 0.0f;
    });
  }

  void store(const Panel& panel) {
    const std::size_t rows = rows_ - std::min(rows_, lane_);
    std::array<std::int16_t*, kPanelRows> codes{};
    for (std::size_t r = 0; r < std::min(kPanelRows, rows); ++r)
      codes[r] = encoding_.codes(first_row_ + lane_ + r).data();
    transpose_rows(std::min(kPanelRows, rows), count_, [&](std::size_t j, std::size_t r) {
      errors_(lane_ + r, first_ + j) = panel.errors(j, r);
      codes[r][order_[first_ + j]] = panel.codes(j, r);
    });
  }

  /// Rounds t_j, the weight as error feedback has moved it.
  void round_column(Panel& panel, std::size_t j) {
    const float pivot = r_(first_ + j, first_ + j);
    const float inverse_pivot = 1.0f / pivot;
    const std::span<const float> weights = panel.weights.row(j);
    const std::span<const float> feedback = panel.feedback.row(j);
    std::array<float, kPanelRows> target;
    std::array<float, kPanelRows> values;
    for (std::size_t r = 0; r < kPanelRows; ++r) target[r] = weights[r] + feedback[r] * inverse_pivot;
    result_.finite = result_.finite && all_finite(target);
    std::array<float, kPanelRows> rounded = target;
    if (prunes_)
      for (std::size_t r = 0; r < kPanelRows; ++r) rounded[r] *= panel.kept(j, r);
    steps_.round(order_[first_ + j], lane_, rounded, panel.codes.row(j), values);
    const std::span<float> errors = panel.errors.row(j);
    std::array<float, kPanelRows> squares;
    for (std::size_t r = 0; r < kPanelRows; ++r) {
      errors[r] = weights[r] - values[r];
      squares[r] = (target[r] - values[r]) * (target[r] - values[r]);
    }
    float sum = 0;
    for (std::size_t r = 0; r < std::min(kPanelRows, rows_ - std::min(rows_, lane_)); ++r) sum += squares[r];
    result_.loss += static_cast<double>(sum) * pivot * pivot;
  }

  /// S_g R_gg^-1: how far feedback has moved the `cols` columns from j on, which errors of all columns before have
  /// reached: the same as the current weights of the classic, right-looking form, less the original ones.
  MatrixF moved_by_feedback(const Panel& panel, std::size_t j, std::size_t cols) const {
    MatrixF moved(cols, kPanelRows);
    std::copy_n(panel.feedback.row(j).data(), moved.values().size(), moved.data());
    solve_transposed_upper(r_.row_range(first_ + j, cols).col_range(first_ + j, cols), moved);
    return moved;
  }

  /// Fits the unit that begins at column j to its weights as feedback has moved them.
  void begin_unit(Panel& panel, std::size_t j) {
    const std::size_t position = first_ + j;
    const MatrixF moved = moved_by_feedback(panel, j, unit_cols_);
    if (group_cols_ > 0) choose_groups(panel, j, moved);  // later groups are chosen anew when their turn comes
    const std::size_t unit = order_[position] / unit_cols_;
    const std::size_t first_col = unit * unit_cols_;
    std::vector<float> row(unit_cols_);
    for (std::size_t r = 0; r < kPanelRows && lane_ + r < rows_; ++r) {
      for (std::size_t i = 0; i < unit_cols_; ++i)
        row[order_[position + i] - first_col] = panel.weights(j + i, r) + moved(i, r);
      encoding_.fit_unit(first_row_ + lane_ + r, unit, row,
                         std::span(plan_.factor.importance).subspan(first_col, unit_cols_), plan_.scale_rule);
    }
    steps_.load(first_col / step_cols_, unit_cols_ / step_cols_);
  }

  /// Chooses the n:m masks of whole groups from column j on, as many as `moved` has rows for.
  void choose_groups(Panel& panel, std::size_t j, const MatrixF& moved) {
    const SparsityPattern& pattern = *plan_.chooses;
    Mask& mask = encoding_.mask();
    std::array<float, SparsityPattern::kLargestM> current{};
    for (std::size_t at = 0; at < moved.rows(); at += group_cols_)
      for (std::size_t r = 0; r < kPanelRows && lane_ + r < rows_; ++r) {
        for (std::size_t i = 0; i < group_cols_; ++i) current[i] = panel.weights(j + at + i, r) + moved(at + i, r);
        const std::uint32_t kept =
            plan_.subsets.choose(first_ + j + at, std::span<const float>(current).first(group_cols_), pattern.n());
        for (std::size_t i = 0; i < group_cols_; ++i) {
          const std::size_t col = order_[first_ + j + at + i];
          if ((kept >> i & 1) != 0)
            mask.keep(first_row_ + lane_ + r, col);
          else
            mask.prune(first_row_ + lane_ + r, col);
        }
      }
    load_mask(panel, j, moved.rows());
  }

  const FeedbackPlan& plan_;
  const std::vector<std::size_t>& order_;
  ConstViewF r_;
  ConstViewF weights_;
  Encoding& encoding_;
  std::size_t first_row_;
  std::size_t rows_;
  std::size_t unit_cols_;
  std::size_t step_cols_;
  bool prunes_;
  std::size_t group_cols_;  ///< m of an n:m mask that is chosen on the way, else 0
  MatrixF errors_;          ///< [kFeedbackRows x in], in the order of rounding
  MatrixF feedback_;        ///< [kFeedbackRows x block], of all blocks before
  std::vector<Panel> panels_;
  std::vector<float> padding_;  ///< zeros, for rows below the last one
  StepTable steps_;
  std::size_t first_ = 0;  ///< the block
  std::size_t count_ = 0;
  std::size_t lane_ = 0;  ///< the panel's first row in the tile
  FeedbackResult result_;
};

/// Whole units of about `wanted` columns.
std::size_t block_cols(std::size_t unit_cols, bool fixed_scales, std::size_t wanted) {
  if (fixed_scales || unit_cols >= wanted) return fixed_scales ? wanted : unit_cols;
  return wanted / unit_cols * unit_cols;
}

/// A step holds whole units, or lies in one.
std::size_t step_cols(std::size_t unit_cols, bool fixed_scales, std::size_t wanted) {
  return fixed_scales || unit_cols >= wanted ? wanted : wanted / unit_cols * unit_cols;
}

/// `wanted` columns, or as many as whole groups of an n:m mask that is chosen on the way fill.
std::size_t whole_groups(const std::optional<SparsityPattern>& chooses, std::size_t wanted) {
  if (!chooses || chooses->kind() != PatternKind::n_of_m) return wanted;
  return wanted / chooses->m() * chooses->m();
}

FeedbackResult sum_of(std::span<const FeedbackResult> results) {
  FeedbackResult sum;
  for (const FeedbackResult& result : results) {
    sum.loss += result.loss;
    sum.finite = sum.finite && result.finite;
  }
  return sum;
}

/// All tiles take each block together, since all rows compete for its mask.
FeedbackResult round_choosing_mask(const FeedbackPlan& plan, ConstViewF weights, Encoding& encoding) {
  std::vector<Tile> tiles;
  for (std::size_t row = 0; row < weights.rows(); row += kFeedbackRows)
    tiles.emplace_back(plan, weights, row, encoding);
  MatrixF scores(weights.rows(), plan.block);
  for (std::size_t first = 0; first < weights.cols(); first += plan.block) {
    const std::size_t cols = std::min(plan.block, weights.cols() - first);
    parallel_for(tiles.size(), [&](std::size_t t) {
      tiles[t].begin_block(first);
      tiles[t].score_block(scores);
    });
    const std::uint64_t pruned =
        plan.chooses->pruned_of(weights.rows() * (first + cols)) - plan.chooses->pruned_of(weights.rows() * first);
    prune_least(scores, pruned, std::span(plan.factor.order).subspan(first, cols), encoding.mask());
    parallel_for(tiles.size(), [&](std::size_t t) { tiles[t].run_block(); });
  }
  std::vector<FeedbackResult> results;
  for (const Tile& tile : tiles) results.push_back(tile.result());
  return sum_of(results);
}

}  // namespace

FeedbackPlan::FeedbackPlan(const GptqFactor& gptq_factor, const Encoding& encoding, ScaleRule rule, bool fixed,
                           std::optional<SparsityPattern> pattern, bool enumerate)
    : factor(gptq_factor),
      scale_rule(rule),
      fixed_scales(fixed),
      chooses(std::move(pattern)),
      block(block_cols(encoding.unit_cols(), fixed, whole_groups(chooses, chooses ? kMaskCols : kBlockCols))),
      step(step_cols(encoding.unit_cols(), fixed, whole_groups(chooses, kStepCols))),
      near(near_coefficients(factor.r, block, step)) {
  if (chooses && chooses->kind() == PatternKind::n_of_m) {
    assert(fixed || encoding.unit_cols() % chooses->m() == 0);
    subsets = SubsetChoice(factor, chooses->m(), enumerate);
  }
}

FeedbackResult round_with_feedback(const FeedbackPlan& plan, ConstViewF weights, Encoding& encoding) {
  if (plan.chooses && plan.chooses->kind() == PatternKind::unstructured)
    return round_choosing_mask(plan, weights, encoding);
  std::vector<FeedbackResult> results(divide_up(weights.rows(), kFeedbackRows));
  parallel_for(results.size(), [&](std::size_t t) {
    Tile tile(plan, weights, t * kFeedbackRows, encoding);
    for (std::size_t first = 0; first < weights.cols(); first += plan.block) {
      tile.begin_block(first);
      tile.run_block();
    }
    results[t] = tile.result();
  });
  return sum_of(results);
}

}  // namespace adze
