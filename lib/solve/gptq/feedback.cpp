#include "solve/gptq/feedback.h"

#include <algorithm>
#include <array>

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

/// One block of columns of kPanelRows rows, transposed: row j belongs to the block's column j.
struct Panel {
  MatrixF weights;
  MatrixF feedback;  ///< S_j = sum of d_i R_ij over the columns i whose errors have reached j
  MatrixF errors;    ///< d_j = w_j - value_j
  Matrix<std::int16_t> codes;

  explicit Panel(std::size_t cols)
      : weights(cols, kPanelRows), feedback(cols, kPanelRows), errors(cols, kPanelRows), codes(cols, kPanelRows) {}
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
        errors_(kFeedbackRows, weights.cols()),
        feedback_(kFeedbackRows, std::min(plan.block, weights.cols())),
        panels_(kPanels, Panel(feedback_.cols())),
        padding_(weights.cols()),
        steps_(encoding, first_row, rows_, kFeedbackRows) {
    if (plan.fixed_scales) steps_.load(0, weights.cols() / step_cols_);
  }

  FeedbackResult run() {
    for (std::size_t first = 0; first < weights_.cols(); first += plan_.block) {
      first_ = first;
      count_ = std::min(plan_.block, weights_.cols() - first);
      run_block();
    }
    return result_;
  }

 private:
  void run_block() {
    if (first_ > 0)
      multiply_nn(errors_.view().col_range(0, first_), r_.row_range(0, first_).col_range(first_, count_),
                  feedback_.view().col_range(0, count_));
    for (lane_ = 0; lane_ < kFeedbackRows; lane_ += kPanelRows) {
      Panel& panel = panels_[lane_ / kPanelRows];
      load(panel);
      for (std::size_t at = 0; at < count_; at += plan_.step) run_step(panel, at, std::min(plan_.step, count_ - at));
      store(panel);
    }
  }

  void run_step(Panel& panel, std::size_t at, std::size_t width) {
    if (at > 0)
      multiply_tn(r_.row_range(first_, at).col_range(first_ + at, width), panel.errors.view().row_range(0, at),
                  panel.feedback.view().row_range(at, width), true);
    std::size_t reached = at;  // errors of columns before this one are in the feedback already
    for (std::size_t j = at; j < at + width; ++j) {
      if (!plan_.fixed_scales && (first_ + j) % unit_cols_ == 0) {
        for (std::size_t i = j; i < std::min(j + unit_cols_, at + width); ++i) reach(panel, at, reached, j, i);
        reached = j;
        begin_unit(panel, j);
      }
      reach(panel, at, reached, j, j);
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
    steps_.round(order_[first_ + j], lane_, target, panel.codes.row(j), values);
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

  /// Fits the unit that begins at column j to its weights as feedback has moved them: W_g + S_g R_gg^-1, the same as
  /// the current weights of the classic, right-looking form.
  void begin_unit(Panel& panel, std::size_t j) {
    const std::size_t position = first_ + j;
    MatrixF moved(unit_cols_, kPanelRows);
    std::copy_n(panel.feedback.row(j).data(), moved.values().size(), moved.data());
    solve_transposed_upper(r_.row_range(position, unit_cols_).col_range(position, unit_cols_), moved);
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

  const FeedbackPlan& plan_;
  const std::vector<std::size_t>& order_;
  ConstViewF r_;
  ConstViewF weights_;
  Encoding& encoding_;
  std::size_t first_row_;
  std::size_t rows_;
  std::size_t unit_cols_;
  std::size_t step_cols_;
  MatrixF errors_;    ///< [kFeedbackRows x in], in the order of rounding
  MatrixF feedback_;  ///< [kFeedbackRows x block], of all blocks before
  std::vector<Panel> panels_;
  std::vector<float> padding_;  ///< zeros, for rows below the last one
  StepTable steps_;
  std::size_t first_ = 0;  ///< the block
  std::size_t count_ = 0;
  std::size_t lane_ = 0;  ///< the panel's first row in the tile
  FeedbackResult result_;
};

/// Whole units of about kBlockCols columns.
std::size_t block_cols(std::size_t unit_cols, bool fixed_scales) {
  if (fixed_scales || unit_cols >= kBlockCols) return fixed_scales ? kBlockCols : unit_cols;
  return kBlockCols / unit_cols * unit_cols;
}

/// A step holds whole units, or lies in one.
std::size_t step_cols(std::size_t unit_cols, bool fixed_scales) {
  return fixed_scales || unit_cols >= kStepCols ? kStepCols : kStepCols / unit_cols * unit_cols;
}

}  // namespace

FeedbackPlan::FeedbackPlan(const GptqFactor& gptq_factor, const Encoding& encoding, ScaleRule rule, bool fixed)
    : factor(gptq_factor),
      scale_rule(rule),
      fixed_scales(fixed),
      block(block_cols(encoding.unit_cols(), fixed)),
      step(step_cols(encoding.unit_cols(), fixed)),
      near(near_coefficients(factor.r, block, step)) {}

FeedbackResult round_with_feedback(const FeedbackPlan& plan, ConstViewF weights, std::size_t first_row,
                                   Encoding& encoding) {
  return Tile(plan, weights, first_row, encoding).run();
}

}  // namespace adze
