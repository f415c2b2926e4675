#include "solve/nested/nested.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/checked.h"
#include "base/parallel.h"
#include "grid/integer/integer.h"
#include "grid/nested/nested_tensor.h"
#include "linalg/gemm.h"
#include "linalg/rounding.h"
#include "solve/common.h"
#include "solve/gptq/factor.h"

namespace adze {
namespace {

constexpr std::size_t kMostViews = 7;
constexpr std::size_t kTileRows = 128;
constexpr std::size_t kBlockCols = 64;
constexpr int kShrinks = 21;  // 1.00, 0.98 .. 0.60 of the range (specification 8.2)

struct Options {
  std::vector<double> views{4, 2};  ///< widths below the grid's
  std::vector<double> weights;      ///< of the grid's width first, then of the views; empty: kDefaultWeights
  int planes = 0;                   ///< what is stored; 0: all
  GptqOptions gptq;
};

/// A width with its say.
struct View {
  int bits;
  float weight;
};

/// Widest first; the first is the grid's own. By default a bit less halves a view's say, while it makes four times the
/// loss: half way between equal sums and equal ratios of losses, and the best for each view but the widest
/// (docs/nested.md).
std::vector<View> views_of(const Options& options, int grid_bits) {
  std::vector<View> views{{grid_bits, 1}};
  for (const double bits : options.views)
    if (bits < grid_bits) views.push_back({static_cast<int>(bits), 1});
  for (std::size_t v = 0; v < views.size(); ++v)
    views[v].weight = v < options.weights.size() ? static_cast<float>(options.weights[v])
                                                 : std::ldexp(1.0f, views[v].bits - grid_bits);
  return views;
}

/// What a unit's codes stand for: value = step * (level - zero).
struct UnitScale {
  float step = 0;
  float inverse = 0;
  float zero = 0;

  UnitScale() = default;
  UnitScale(const StepGroup& group, float symmetric_zero)
      : step(group.step),
        inverse(group.step > 0 ? 1.0f / group.step : 0.0f),
        zero(symmetric_zero - group.offset * inverse) {}

  float code(float value) const { return value * inverse + zero; }
};

class Levels {
 public:
  Levels(std::vector<View> views, int grid_bits) : views_(std::move(views)), bits_(grid_bits) {}

  std::size_t count() const { return views_.size(); }
  float level(unsigned code, std::size_t view) const { return nested_level(code, views_[view].bits, bits_); }
  unsigned nearest(float x) const {
    return static_cast<unsigned>(round_half_even(std::clamp(x, 0.0f, static_cast<float>((1 << bits_) - 1))));
  }

  float error(unsigned code, std::span<const float> targets) const {
    float sum = 0;
    for (std::size_t v = 0; v < views_.size(); ++v) {
      const float off = targets[v] - level(code, v);
      sum += views_[v].weight * off * off;
    }
    return sum;
  }
  /// The code of least error. Between neighbours in all but the grid's own view only that one differs, so one candidate
  /// for each value of the leading bits will do; and only from the smallest of all targets to the largest.
  unsigned best(std::span<const float> targets) const {
    if (count() == 1) return nearest(targets[0]);
    const auto [low, high] = std::ranges::minmax(targets);
    const int rest = bits_ - views_[1].bits;
    const unsigned own = nearest(targets[0]), last = nearest(high) >> rest;
    unsigned best = 0;
    float least = INFINITY;
    for (unsigned lead = nearest(low) >> rest; lead <= last; ++lead) {
      const unsigned code = std::clamp(own, lead << rest, ((lead + 1) << rest) - 1);
      const float left = error(code, targets);
      if (left < least) {
        least = left;
        best = code;
      }
    }
    return best;
  }

 private:
  std::vector<View> views_;
  int bits_;
};

float symmetric_zero(const Grid& grid) {
  return integer_spec_of(grid)->symmetric ? std::ldexp(1.0f, grid.code_bits() - 1) : 0.0f;
}

/// Side data of one unit: with one target for all views the nearest code is the best for each.
UnitScale fit_unit(const Grid& grid, const Levels& levels, std::span<const float> weights,
                   std::span<const float> importance, std::span<std::byte> side) {
  grid.fit(weights, {}, ScaleRule::minmax, side);
  std::vector<std::byte> shrunk(side.begin(), side.end());
  const float widest = grid.parameter(side, 0);
  UnitScale best;
  double least = INFINITY;
  std::array<float, kMostViews + 1> targets{};
  for (int k = 0; k < kShrinks; ++k) {
    grid.set_parameter(shrunk, 0, widest * (1.0f - 0.02f * static_cast<float>(k)));
    StepGroup group;
    grid.read_side(shrunk, {&group, 1});
    const UnitScale scale(group, symmetric_zero(grid));
    double error = 0;
    for (std::size_t c = 0; c < weights.size(); ++c) {
      const float x = scale.code(weights[c]);
      std::fill_n(targets.begin(), levels.count(), x);
      error += double{importance[c]} * levels.error(levels.nearest(x), std::span(targets).first(levels.count()));
    }
    error *= double{scale.step} * scale.step;
    if (!(error < least)) continue;
    least = error;
    best = scale;
    std::ranges::copy(shrunk, side.begin());
  }
  return best;
}

/// What rounding a matrix needs to know.
struct Plan {
  const Grid& grid;
  const Levels& levels;
  std::span<const float> importance;  ///< per column
  const GptqFactor* factor;           ///< nullptr: no feedback
};

/// Rows [first, first + rows) of `encoding`, scales first.
class Tile {
 public:
  Tile(const Plan& plan, ConstViewF weights, std::size_t first, Encoding& encoding)
      : plan_(plan),
        weights_(weights.row_range(first, std::min(kTileRows, weights.rows() - first))),
        first_(first),
        encoding_(encoding),
        units_(plan.grid.units(weights.cols())) {
    const std::size_t unit = plan.grid.unit_cols(weights.cols());
    std::vector<std::byte> side(plan.grid.side_bytes());
    for (std::size_t r = 0; r < weights_.rows(); ++r)
      for (std::size_t u = 0; u < units_; ++u) {
        scales_.push_back(fit_unit(plan.grid, plan.levels, weights_.row(r).subspan(u * unit, unit),
                                   plan.importance.subspan(u * unit, unit), side));
        encoding.set_side(first + r, u, side);
      }
  }

  void round() {
    std::array<float, kMostViews + 1> targets{};
    for (std::size_t r = 0; r < weights_.rows(); ++r)
      for (std::size_t c = 0; c < weights_.cols(); ++c) {
        targets.fill(scale(r, c).code(weights_(r, c)));
        set_code(r, c, plan_.levels.best(std::span(targets).first(plan_.levels.count())));
      }
  }

  /// D R, D = W - What of each view, is what is minimised: column p of it is the sum over q <= p of D_q R_qp.
  void round_with_feedback() {
    const MatrixF& factor = plan_.factor->r;
    const std::size_t views = plan_.levels.count(), cols = weights_.cols();
    std::vector<MatrixF> errors(views, MatrixF(weights_.rows(), cols));  // D of each view, columns in rounding order
    std::vector<MatrixF> carried(views, MatrixF(weights_.rows(), kBlockCols));
    for (std::size_t begin = 0; begin < cols; begin += kBlockCols) {
      const std::size_t count = std::min(kBlockCols, cols - begin);
      for (std::size_t v = 0; v < views; ++v) {
        const ViewF sums = carried[v].view().col_range(0, count);
        if (begin > 0)
          multiply_nn(errors[v].view().col_range(0, begin),
                      ConstViewF(factor).row_range(0, begin).col_range(begin, count), sums);
      }
      round_block(begin, count, errors, carried);
    }
  }

 private:
  const UnitScale& scale(std::size_t r, std::size_t c) const { return scales_[r * units_ + c / encoding_.unit_cols()]; }
  void set_code(std::size_t r, std::size_t c, unsigned code) {
    const int shift = integer_spec_of(plan_.grid)->symmetric ? 1 << (plan_.grid.code_bits() - 1) : 0;
    encoding_.codes(first_ + r)[c] = static_cast<std::int16_t>(static_cast<int>(code) - shift);
  }

  void round_block(std::size_t begin, std::size_t count, std::vector<MatrixF>& errors, std::vector<MatrixF>& carried) {
    const MatrixF& factor = plan_.factor->r;
    const std::size_t views = plan_.levels.count(), rows = weights_.rows();
    std::vector<std::vector<float>> column(views, std::vector<float>(rows));
    std::array<float, kMostViews + 1> targets{};
    for (std::size_t j = 0; j < count; ++j) {
      const std::size_t p = begin + j, c = plan_.factor->order[p];
      const float inverse_pivot = 1.0f / factor(p, p);
      for (std::size_t r = 0; r < rows; ++r) {
        const UnitScale& unit = scale(r, c);
        for (std::size_t v = 0; v < views; ++v)
          targets[v] = unit.code(weights_(r, c) + carried[v](r, j) * inverse_pivot);
        const unsigned code = plan_.levels.best(std::span(targets).first(views));
        set_code(r, c, code);
        for (std::size_t v = 0; v < views; ++v)
          errors[v](r, p) = column[v][r] = weights_(r, c) - unit.step * (plan_.levels.level(code, v) - unit.zero);
      }
      if (j + 1 == count) break;
      const auto coupling = factor.row(p).subspan(p + 1, count - j - 1);
      for (std::size_t v = 0; v < views; ++v)
        add_outer(column[v], coupling, carried[v].view().col_range(j + 1, count - j - 1));
    }
    for (MatrixF& sums : carried) std::ranges::fill(sums.values(), 0.0f);
  }

  const Plan& plan_;
  ConstViewF weights_;
  std::size_t first_;
  Encoding& encoding_;
  std::size_t units_;
  std::vector<UnitScale> scales_;  ///< [rows x units]
};

class NestedSolver final : public Solver {
 public:
  explicit NestedSolver(Options options) : options_(std::move(options)) {}

  std::string description() const override {
    return fmt::format("nested views='{}' view_weights='{}' planes={} damp={} shift={}", fmt::join(options_.views, " "),
                       fmt::join(options_.weights, " "), options_.planes, options_.gptq.damp, options_.gptq.shift);
  }

  bool wants_reference() const override { return options_.gptq.shift > 0; }
  bool couples_rows() const override { return true; }  // planes are of the whole matrix
  bool stores_rows_apart() const override { return true; }

  std::string format(const Target& target) const override { return nested_format(*format_on(target.grid)); }

  std::optional<std::string> cannot_make(const Target& target) const override {
    const auto format = format_on(target.grid);
    if (!format)
      return fmt::format("nested codes are integers with scales of their own, such as int8, not {}",
                         target.grid.name());
    if (auto reason = target.grid.cannot_hold(target.shape.cols)) return reason;
    if (options_.planes > target.grid.code_bits())
      return fmt::format("planes: {} are more than {} has", options_.planes, target.grid.name());
    if (options_.weights.size() > views_of(options_, target.grid.code_bits()).size())
      return fmt::format("view_weights: {} of them for {} views", options_.weights.size(),
                         views_of(options_, target.grid.code_bits()).size());
    return std::nullopt;
  }

  SolverScratch scratch(const ProblemSize& size) const override {
    if (!size.has_hessian) return {};
    const std::uint64_t moment = std::uint64_t{size.inputs} * size.inputs;
    const std::uint64_t targets = options_.gptq.shift > 0 && size.has_cross ? size.weights * sizeof(float) : 0;
    const std::uint64_t errors = static_cast<std::uint64_t>(thread_count()) * (options_.views.size() + 1) * kTileRows *
                                 size.inputs * sizeof(float);
    return {moment * (sizeof(double) + sizeof(float)) + targets, moment * sizeof(float) + targets + errors};
  }

  std::vector<Solution> solve(const Problem& problem) const override {
    check_problem(problem);
    SolveReport report;
    std::vector<MatrixF> targets;
    const Problem shifted = shifted_problem(problem, options_.gptq.shift, targets, report.fallback);
    GptqFactor factor;
    if (problem.has_hessian()) {
      factor = factor_hessian(problem.hessian, options_.gptq, problem.grid->unit_cols(problem.inputs()));
      report.damping = factor.damping;
      report.dead_inputs = factor.dead_inputs;
      if (!factor.trouble.empty()) add_remark(report.fallback, factor.trouble);
    } else {
      report.fallback = "no second moment (an untied embedding has none): rounded to nearest";
    }
    const bool feedback = !factor.r.empty();
    const std::vector<float> importance = feedback ? factor.importance : input_importance(problem);
    const int bits = problem.grid->code_bits();
    const Levels levels(views_of(options_, bits), bits);
    const Plan plan{*problem.grid, levels, importance, feedback ? &factor : nullptr};
    std::vector<Solution> solutions;
    for (std::size_t i = 0; i < shifted.weights.size(); ++i) {
      const auto integers = rounded(plan, shifted.weights[i], problem.grid);
      auto tensor =
          std::make_shared<NestedTensor>(NestedTensor::from_integers(*integers, format_on(*problem.grid)->planes));
      solutions.push_back(finish_solution(shifted, i, std::move(tensor), report));
    }
    return solutions;
  }

 private:
  std::optional<NestedFormat> format_on(const Grid& grid) const {
    if (integer_spec_of(grid) == nullptr) return std::nullopt;
    return nested_format_of(grid_from_name(grid.name()), options_.planes > 0 ? options_.planes : grid.code_bits());
  }

  static std::shared_ptr<const QuantizedTensor> rounded(const Plan& plan, ConstViewF weights,
                                                        const std::shared_ptr<const Grid>& grid) {
    Encoding encoding(grid, weights.shape());
    parallel_for(divide_up(weights.rows(), kTileRows), [&](std::size_t t) {
      Tile tile(plan, weights, t * kTileRows, encoding);
      if (plan.factor != nullptr)
        tile.round_with_feedback();
      else
        tile.round();
    });
    return std::dynamic_pointer_cast<const QuantizedTensor>(encoding.finish());
  }

  Options options_;
};

bool are_widths(const std::vector<double>& views) {
  const auto is_width = [](double bits) { return bits >= 1 && bits <= 7 && bits == std::floor(bits); };
  return std::ranges::all_of(views, is_width) &&
         std::ranges::adjacent_find(views, std::ranges::less_equal()) == views.end();
}

}  // namespace

std::unique_ptr<Solver> configure_nested(MapReader& options) {
  Options read;
  const Value views = options.optional("views");
  if (const auto widths = views.numbers()) {
    if (are_widths(*widths))
      read.views = *widths;
    else
      views.complain("must be descending widths of 1 to 7 bits, such as \"4 2\"");
  }
  const Value weights = options.optional("view_weights");
  if (const auto numbers = weights.numbers()) {
    if (std::ranges::all_of(*numbers, [](double w) { return w > 0; }))
      read.weights = *numbers;
    else
      weights.complain("must be positive numbers, of the grid's width first, such as \"1 0.01 0.001\"");
  }
  read.planes = static_cast<int>(options.optional("planes").integer(1, 8).value_or(0));
  read.gptq.damp = options.optional("damp").real(0, 0.99).value_or(read.gptq.damp);
  read.gptq.shift = options.optional("shift").real(0, 1).value_or(read.gptq.shift);
  return std::make_unique<NestedSolver>(std::move(read));
}

}  // namespace adze
