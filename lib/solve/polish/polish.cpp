#include "solve/polish/polish.h"

#include <algorithm>
#include <array>

#include "base/checked.h"
#include "base/parallel.h"
#include "linalg/accumulate.h"
#include "linalg/gemm.h"
#include "solve/columns.h"

namespace adze {
namespace {

constexpr std::size_t kTileRows = 256;  // fixed, as everywhere: products have shapes of the problem
constexpr std::size_t kPanelRows = 64;
constexpr std::size_t kBlockCols = 256;
constexpr std::size_t kWidestUnit =
    512;  // scales of wider units (a whole row) stay: their moves would cost as much as a sweep

/// One block of columns of kPanelRows rows, transposed: row j belongs to the block's column j.
struct Panel {
  MatrixF errors;    ///< d_j = w_j - value_j
  MatrixF gradient;  ///< (D H)_j
  MatrixF moved;     ///< d_j minus what it was when `gradient` was computed
  MatrixF basis;     ///< how values grow with the scale that is being moved
  MatrixF product;   ///< basis times its part of H
  MatrixF kept;      ///< 1 or, where the weight is pruned, 0; empty where nothing is
  Matrix<std::int16_t> codes;

  Panel(std::size_t cols, bool prunes)
      : errors(cols, kPanelRows),
        gradient(cols, kPanelRows),
        moved(cols, kPanelRows),
        basis(cols, kPanelRows),
        product(cols, kPanelRows),
        kept(prunes ? cols : 0, kPanelRows),
        codes(cols, kPanelRows) {}
};

class Tile {
 public:
  Tile(ConstViewF weights, ConstViewF hessian, const PolishOptions& options, std::size_t first_row, Encoding& encoding)
      : weights_(weights),
        h_(hessian),
        encoding_(encoding),
        prunes_(!encoding.mask().empty()),
        parameters_(encoding.grid().parameters(weights.cols())),
        refit_(options.refit && encoding.unit_cols() <= kWidestUnit),
        first_row_(first_row),
        rows_(std::min(kTileRows, weights.rows() - first_row)),
        unit_cols_(encoding.unit_cols()),
        step_cols_(encoding.step_cols()),
        block_(!refit_ || unit_cols_ < kBlockCols
                   ? kBlockCols / std::min(unit_cols_, kBlockCols) * std::min(unit_cols_, kBlockCols)
                   : unit_cols_),
        errors_(kTileRows, weights.cols()),
        gradient_(kTileRows, std::min(block_, weights.cols())),
        panel_(gradient_.cols(), prunes_),
        steps_(encoding, first_row, rows_, kTileRows) {
    steps_.load(0, weights.cols() / step_cols_);
    for (std::size_t r = 0; r < rows_; ++r)
      for (std::size_t c = 0; c < weights.cols(); ++c)
        errors_(r, c) = weights(first_row + r, c) - encoding.value(first_row + r, c);
  }

  /// One pass over all columns. False when nothing moved.
  bool sweep() {
    changed_ = false;
    for (first_ = 0; first_ < weights_.cols(); first_ += block_) {
      count_ = std::min(block_, weights_.cols() - first_);
      multiply_nn(errors_, h_.col_range(first_, count_), gradient_.view().col_range(0, count_));
      for (lane_ = 0; lane_ < rows_; lane_ += kPanelRows) {
        load();
        for (std::size_t j = 0; j < count_; ++j) move_code(j);
        if (refit_) move_scales();
        store();
      }
    }
    return changed_;
  }

 private:
  std::size_t real_rows() const { return std::min(kPanelRows, rows_ - lane_); }
  std::size_t row_of(std::size_t r) const { return first_row_ + lane_ + r; }

  void load() {
    std::array<const std::int16_t*, kPanelRows> codes{};
    for (std::size_t r = 0; r < kPanelRows; ++r)
      codes[r] = encoding_.codes(r < real_rows() ? row_of(r) : first_row_).data();
    transpose_rows(kPanelRows, count_, [&](std::size_t j, std::size_t r) {
      const bool padding = r >= real_rows();
      panel_.errors(j, r) = padding ? 0.0f : errors_(lane_ + r, first_ + j);
      panel_.gradient(j, r) = padding ? 0.0f : gradient_(lane_ + r, j);
      panel_.codes(j, r) = codes[r][first_ + j];
    });
    if (!prunes_) return;
    transpose_rows(real_rows(), count_, [&](std::size_t j, std::size_t r) {
      panel_.kept(j, r) = encoding_.kept(row_of(r), first_ + j) ? 1.0f : 0.0f;
    });
  }

  void store() {
    std::array<std::int16_t*, kPanelRows> codes{};
    for (std::size_t r = 0; r < real_rows(); ++r) codes[r] = encoding_.codes(row_of(r)).data();
    transpose_rows(real_rows(), count_, [&](std::size_t j, std::size_t r) {
      errors_(lane_ + r, first_ + j) = panel_.errors(j, r);
      codes[r][first_ + j] = panel_.codes(j, r);
    });
  }

  /// The best value of weight j, all others fixed: value + gradient / H_jj.
  void move_code(std::size_t j) {
    const std::size_t col = first_ + j;
    const std::span<float> gradient = panel_.gradient.row(j);
    accumulate_rows(h_.row(col).subspan(first_, j), panel_.moved.view().row_range(0, j), gradient);
    const float inverse = 1.0f / h_(col, col);
    const std::span<float> errors = panel_.errors.row(j);
    const std::span<float> moved = panel_.moved.row(j);
    std::array<float, kPanelRows> weights;
    std::array<float, kPanelRows> target;
    std::array<float, kPanelRows> values;
    for (std::size_t r = 0; r < kPanelRows; ++r) {
      weights[r] = r < real_rows() ? weights_(row_of(r), col) : 0.0f;
      target[r] = (weights[r] - errors[r]) + gradient[r] * inverse;
    }
    if (prunes_)
      for (std::size_t r = 0; r < kPanelRows; ++r) target[r] *= panel_.kept(j, r);
    steps_.round(col, lane_, target, panel_.codes.row(j), values);
    bool any = false;
    for (std::size_t r = 0; r < kPanelRows; ++r) {
      const float error = weights[r] - values[r];
      moved[r] = error - errors[r];
      errors[r] = error;
      any = any || moved[r] != 0;
    }
    changed_ = changed_ || any;
  }

  void move_scales() {
    // Errors of columns after j have not reached column j's gradient yet, nor has its own.
    for (std::size_t j = 0; j < count_; ++j)
      accumulate_rows(h_.row(first_ + j).subspan(first_ + j, count_ - j), panel_.moved.view().row_range(j, count_ - j),
                      panel_.gradient.row(j));
    for (std::size_t unit = first_ / unit_cols_; unit * unit_cols_ < first_ + count_; ++unit)
      for (std::size_t k = 0; k < parameters_.size(); ++k) move_scale(unit, k);
  }

  /// Moves parameter k of a unit by basis . gradient / (basis H basis), as near as it can be stored.
  void move_scale(std::size_t unit, std::size_t k) {
    const Grid::ScaleParameter& parameter = parameters_[k];
    const std::size_t start = unit * unit_cols_ + parameter.first_group * step_cols_;  // column
    const std::size_t cols = parameter.groups * step_cols_;
    const std::size_t at = start - first_;
    const ViewF basis = panel_.basis.view().row_range(0, cols);
    const ViewF product = panel_.product.view().row_range(0, cols);
    load_basis(unit, k, at);
    multiply_nn(h_.row_range(start, cols).col_range(start, cols), basis, product);
    std::array<float, kPanelRows> slope{};
    std::array<float, kPanelRows> curvature{};
    for (std::size_t j = 0; j < cols; ++j) {
      const std::span<const float> gradient = panel_.gradient.row(at + j);
      for (std::size_t r = 0; r < kPanelRows; ++r) {
        slope[r] += basis(j, r) * gradient[r];
        curvature[r] += basis(j, r) * product(j, r);
      }
    }
    bool any = false;
    const ViewF moved = panel_.moved.view().row_range(0, cols);
    std::fill_n(moved.data(), cols * kPanelRows, 0.0f);
    for (std::size_t r = 0; r < real_rows(); ++r)
      if (curvature[r] > 0 && try_move(unit, k, r, slope[r], curvature[r])) {
        any = true;
        refresh(start, cols, at, r);
      }
    if (!any) return;
    changed_ = true;
    multiply_nn(h_.row_range(first_, count_).col_range(start, cols), moved, panel_.gradient.view().row_range(0, count_),
                true);
  }

  void load_basis(std::size_t unit, std::size_t k, std::size_t at) {
    const Grid::ScaleParameter& parameter = parameters_[k];
    slopes_.resize(parameter.groups);
    for (std::size_t r = 0; r < real_rows(); ++r) {
      encoding_.grid().slopes(encoding_.side_of(row_of(r), unit), k, slopes_);
      for (std::size_t j = 0; j < parameter.groups * step_cols_; ++j) {
        const Grid::Slope& slope = slopes_[j / step_cols_];
        // Pruned weights stay zero: their codes follow the scale.
        const bool moves = !prunes_ || panel_.kept(at + j, r) != 0;
        panel_.basis(j, r) = moves ? slope.step * level(panel_.codes(at + j, r)) + slope.offset : 0.0f;
      }
    }
    for (std::size_t j = 0; j < parameter.groups * step_cols_; ++j)
      std::fill(panel_.basis.row(j).begin() + static_cast<std::ptrdiff_t>(real_rows()), panel_.basis.row(j).end(),
                0.0f);
  }

  float level(std::int16_t code) const {
    const std::span<const float> levels = encoding_.grid().levels();
    return levels.empty() ? static_cast<float>(code) : levels[static_cast<std::size_t>(code)];
  }

  std::int16_t code_of_zero(const StepGroup& group) const {
    const float zero = 0;
    std::int16_t code = 0;
    round_values(encoding_.grid(), group, std::span(&zero, 1), std::span(&code, 1));
    return code;
  }

  /// True when a stored value was found that lowers the loss; the encoding has it then.
  bool try_move(std::size_t unit, std::size_t k, std::size_t r, float slope, float curvature) {
    const std::size_t row = row_of(r);
    const float before = encoding_.parameter(row, unit, k);
    encoding_.set_parameter(row, unit, k, before + slope / curvature);
    const float step = encoding_.parameter(row, unit, k) - before;
    if (step == 0) return false;
    if (step * step * curvature < 2 * step * slope) return true;
    encoding_.set_parameter(row, unit, k, before);
    return false;
  }

  /// Values of row r after one of its scales moved.
  void refresh(std::size_t start, std::size_t cols, std::size_t at, std::size_t r) {
    steps_.load_row(lane_ + r, start / step_cols_, cols / step_cols_);
    for (std::size_t j = 0; j < cols; ++j) {
      const StepGroup& group = encoding_.group(row_of(r), start + j);
      std::int16_t& code = panel_.codes(at + j, r);
      if (prunes_ && panel_.kept(at + j, r) == 0) code = code_of_zero(group);
      const float error = weights_(row_of(r), start + j) - value_of(encoding_.grid(), group, code);
      panel_.moved(j, r) = error - panel_.errors(at + j, r);
      panel_.errors(at + j, r) = error;
    }
  }

  ConstViewF weights_;
  ConstViewF h_;
  Encoding& encoding_;
  bool prunes_;
  std::span<const Grid::ScaleParameter> parameters_;
  bool refit_;
  std::size_t first_row_;
  std::size_t rows_;
  std::size_t unit_cols_;
  std::size_t step_cols_;
  std::size_t block_;
  MatrixF errors_;    ///< D, [kTileRows x in]
  MatrixF gradient_;  ///< D H of the block's columns, [kTileRows x block]
  Panel panel_;
  StepTable steps_;
  std::vector<Grid::Slope> slopes_;
  std::size_t first_ = 0;  ///< the block
  std::size_t count_ = 0;
  std::size_t lane_ = 0;  ///< the panel's first row in the tile
  bool changed_ = false;
};

}  // namespace

void polish(ConstViewF weights, ConstViewF hessian, const PolishOptions& options, Encoding& encoding) {
  parallel_for(divide_up(weights.rows(), kTileRows), [&](std::size_t t) {
    Tile tile(weights, hessian, options, t * kTileRows, encoding);
    for (int s = 0; s < options.sweeps; ++s)
      if (!tile.sweep()) break;
  });
}

}  // namespace adze
