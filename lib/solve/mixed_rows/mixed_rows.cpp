#include "solve/mixed_rows/mixed_rows.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "allocate/knapsack.h"
#include "base/error.h"
#include "grid/rows/mixed_rows_tensor.h"
#include "metrics/proxy_loss.h"
#include "solve/common.h"
#include "solve/nested/nested.h"

namespace adze {
namespace {

using Part = std::shared_ptr<const CompressedTensor>;

// Few rows are chosen for exactly; of many, slopes leave no gap.
constexpr std::size_t kFewRows = 1024;
constexpr std::size_t kMostBuckets = 4096;

Allocation choose_widths(const std::vector<AllocationUnit>& rows, std::uint64_t bytes) {
  return rows.size() <= kFewRows ? allocate(rows, bytes, kMostBuckets) : allocate_by_slopes(rows, bytes);
}

struct Options {
  std::vector<int> widths{0, 2, 3, 4, 6};  ///< ascending; 0: rows of zeros
  std::optional<double> bits;
  std::string base_name = "gptq";
  std::shared_ptr<const Solver> base;
};

/// "int3 g128 asym" with another width; nothing for grids that are not of integers.
std::shared_ptr<const Grid> with_width(const Grid& grid, int width) {
  const std::string name = grid.name();
  if (!name.starts_with("int") || grid.one_side_per_tensor()) return nullptr;
  return grid_from_name(fmt::format("int{}{}", width, name.substr(std::min(name.find(' '), name.size()))));
}

/// The named rows, as a tensor of the part's grid.
Part gathered(const CompressedTensor& whole, const std::shared_ptr<const Grid>& grid,
              std::span<const std::size_t> rows) {
  const std::size_t row_bytes = grid->row_bytes(whole.shape().cols);
  std::vector<std::byte> payload;
  payload.reserve(rows.size() * row_bytes);
  for (const std::size_t row : rows) {
    const auto bytes = whole.payload().subspan(row * row_bytes, row_bytes);
    payload.insert(payload.end(), bytes.begin(), bytes.end());
  }
  return std::make_shared<QuantizedTensor>(grid, Shape{rows.size(), whole.shape().cols}, std::move(payload));
}

class MixedRowsSolver final : public Solver {
 public:
  explicit MixedRowsSolver(Options options) : options_(std::move(options)) {}

  std::string description() const override {
    return fmt::format("mixed-rows widths='{}' bits={} base=({})", fmt::join(options_.widths, " "),
                       options_.bits ? fmt::format("{}", *options_.bits) : "grid", options_.base->description());
  }

  bool needs_inputs() const override { return options_.base->needs_inputs(); }
  bool wants_reference() const override { return options_.base->wants_reference(); }
  bool couples_rows() const override { return true; }  // by the bytes that they share
  bool stores_rows_apart() const override { return true; }

  std::string format(const Target& target) const override {
    return mixed_rows_format(*format_of(target.grid, target.shape.cols));
  }

  std::optional<std::string> cannot_make(const Target& target) const override {
    const auto format = format_of(target.grid, target.shape.cols);
    if (!format)
      return fmt::format("mixed rows are of integers with scales of their own, such as int4, not of {}",
                         target.grid.name());
    return format->cannot_hold(target.shape);
  }

  /// Beside what the base takes: each tensor in every width, its values once, and those of rows.
  SolverScratch scratch(const ProblemSize& size) const override {
    const SolverScratch base = options_.base->scratch(size);
    std::uint64_t code_bits = 0;
    for (const int width : options_.widths) code_bits += static_cast<std::uint64_t>(width) + (width > 0 ? 1 : 0);
    return {base.factoring, base.solving + size.weights * code_bits / 8 + 2 * size.largest * sizeof(float) +
                                kFewRows * kMostBuckets * sizeof(std::uint16_t)};
  }

  double extra_operations(const ProblemSize& size) const override {
    return static_cast<double>(options_.widths.size()) * options_.base->extra_operations(size);
  }

  std::vector<Solution> solve(const Problem& problem) const override {
    const MixedRowsFormat format = *format_of(*problem.grid, problem.inputs());
    std::vector<std::vector<Solution>> solved(format.grids.size());  // of each width, every tensor
    for (std::size_t g = 0; g < format.grids.size(); ++g) {
      if (!format.grids[g]) continue;
      Problem one = problem;
      one.grid = format.grids[g];
      solved[g] = options_.base->solve(one);
    }
    std::vector<Solution> solutions;
    for (std::size_t i = 0; i < problem.weights.size(); ++i) {
      std::vector<const Solution*> of_tensor;
      for (const auto& widths : solved) of_tensor.push_back(widths.empty() ? nullptr : &widths[i]);
      solutions.push_back(mix(problem, i, format, of_tensor));
    }
    return solutions;
  }

 private:
  std::optional<MixedRowsFormat> format_of(const Grid& grid, std::size_t cols) const {
    MixedRowsFormat format;
    for (const int width : options_.widths) {
      format.grids.push_back(width == 0 ? nullptr : with_width(grid, width));
      if (width > 0 && !format.grids.back()) return std::nullopt;
    }
    format.row_capacity = options_.bits ? static_cast<std::uint64_t>(*options_.bits * static_cast<double>(cols) / 8)
                                        : (grid.cannot_hold(cols) ? 0 : grid.row_bytes(cols));
    return format;
  }

  static Solution mix(const Problem& problem, std::size_t index, const MixedRowsFormat& format,
                      const std::vector<const Solution*>& solved) {
    const ConstViewF weights = problem.weights[index];
    std::vector<AllocationUnit> rows(weights.rows(), AllocationUnit(format.grids.size()));
    SolveReport report;
    for (std::size_t g = 0; g < format.grids.size(); ++g) {
      const MatrixF values = solved[g] ? solved[g]->tensor->decode() : MatrixF(weights.shape());
      const std::vector<double> losses = row_losses(weights, values, problem.hessian);
      for (std::size_t r = 0; r < rows.size(); ++r) rows[r][g] = {format.row_bytes(g, weights.cols()), losses[r]};
      if (!solved[g]) continue;
      report = solved[g]->report;  // what it says of H is the same in every width
    }
    const Allocation allocation =
        choose_widths(rows, format.bytes(weights.shape()) - format.index_bytes(weights.rows()));
    std::vector<std::uint8_t> grid_of;
    std::vector<std::vector<std::size_t>> of_grid(format.grids.size());
    for (std::size_t r = 0; r < rows.size(); ++r) {
      grid_of.push_back(static_cast<std::uint8_t>(allocation.choice[r]));
      of_grid[allocation.choice[r]].push_back(r);
    }
    std::vector<Part> parts(format.grids.size());
    for (std::size_t g = 0; g < parts.size(); ++g)
      if (solved[g] && !of_grid[g].empty()) parts[g] = gathered(*solved[g]->tensor, format.grids[g], of_grid[g]);
    auto tensor = std::make_shared<MixedRowsTensor>(format, weights.cols(), std::move(grid_of), std::move(parts));
    return finish_solution(problem, index, std::move(tensor), std::move(report));
  }

  Options options_;
};

/// "0 2 3 4 6": different widths of 0, 2 to 6 and 8, one of them not 0; ascending.
std::optional<std::vector<int>> parse_widths(std::string_view text) {
  std::vector<int> widths;
  while (true) {
    text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
    if (text.empty()) break;
    int width = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), width);
    if (error != std::errc() || width < 0 || width == 1 || width == 7 || width > 8) return std::nullopt;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    if (!text.empty() && text.front() != ' ') return std::nullopt;
    widths.push_back(width);
  }
  std::ranges::sort(widths);
  if (widths.empty() || widths.back() == 0 || std::ranges::adjacent_find(widths) != widths.end()) return std::nullopt;
  return widths;
}

}  // namespace

std::unique_ptr<Solver> configure_mixed_rows(MapReader& options) {
  Options read;
  const Value widths = options.optional("widths");
  if (const auto text = widths.word()) {
    if (auto parsed = parse_widths(*text))
      read.widths = std::move(*parsed);
    else
      widths.complain("must be different widths of 0, 2 to 6 and 8, such as \"0 2 3 4 6\"");
  }
  if (const auto bits = options.optional("bits").real(0.25, 9)) read.bits = *bits;
  const Value base = options.optional("base");
  const SolverInfo* info = find_solver(base.word().value_or(read.base_name));
  const bool own_layout =
      info != nullptr && (info->configure == &configure_mixed_rows || info->configure == &configure_nested);
  if (info == nullptr || info->factors || info->needs_pattern || own_layout) {
    base.complain("must be a solver that makes codes of a grid: gptq, rtn, obq");
    info = find_solver(read.base_name);
  }
  read.base_name = info->name;
  read.base = info->configure(options);
  return std::make_unique<MixedRowsSolver>(std::move(read));
}

}  // namespace adze
