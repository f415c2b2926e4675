#include "solve/factors/stored_factors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include <fmt/format.h>

#include "base/error.h"
#include "grid/factors/pivoted_tensor.h"
#include "grid/factors/product_tensor.h"
#include "grid/factors/shared_tensor.h"
#include "linalg/convert.h"
#include "linalg/eigen.h"
#include "linalg/gemm.h"
#include "linalg/inverse.h"
#include "solve/common.h"
#include "solve/gptq/gptq.h"

namespace adze {
namespace {

using Part = std::shared_ptr<const CompressedTensor>;

constexpr std::uint64_t kMaxRank = 1 << 20;

constexpr std::array kForms{Named<FactorForm>{"plain", FactorForm::plain},
                            Named<FactorForm>{"pivoted", FactorForm::pivoted}};

/// Numbers that a product of that rank takes, the list of pivots in 16-bit numbers; of a right factor that several
/// products have, a matrix' part.
double numbers(std::size_t rank, FactorForm form, Shape shape, std::size_t sharers) {
  const auto r = static_cast<double>(rank);
  double right = r * static_cast<double>(shape.cols);
  if (form == FactorForm::pivoted) right += static_cast<double>(pivot_list_bytes({rank, shape.cols})) / 2 - r * r;
  return r * static_cast<double>(shape.rows) + right / static_cast<double>(sharers);
}

/// Nothing when the grid can hold factors of that rank.
std::optional<std::string> cannot_hold(const Grid& grid, std::size_t rank, FactorForm form, Shape shape) {
  if (auto reason = grid.cannot_hold(rank)) return reason;
  return grid.cannot_hold(form == FactorForm::pivoted ? shape.cols - rank : shape.cols);
}

MatrixD padded(ConstViewD values, Shape shape) {
  MatrixD whole(shape);
  for (std::size_t r = 0; r < values.rows(); ++r) std::ranges::copy(values.row(r), whole.row(r).begin());
  return whole;
}

/// The rows and columns of a symmetric matrix that `columns` lists; empty stays empty.
MatrixD sub_moment(ConstViewD h, const std::vector<std::size_t>& columns) {
  if (h.rows() == 0) return {};
  MatrixD sub(columns.size(), columns.size());
  for (std::size_t r = 0; r < columns.size(); ++r)
    for (std::size_t c = 0; c < columns.size(); ++c) sub(r, c) = h(columns[r], columns[c]);
  return sub;
}

MatrixD columns_of(ConstViewD values, std::span<const std::size_t> columns) {
  MatrixD taken(values.rows(), columns.size());
  for (std::size_t r = 0; r < values.rows(); ++r)
    for (std::size_t c = 0; c < columns.size(); ++c) taken(r, c) = values(r, columns[c]);
  return taken;
}

/// T with R = R_P [I | T]: R_P^-1 R_Q.
MatrixD interpolation(const MatrixD& right, std::span<const std::size_t> pivots, std::span<const std::size_t> others) {
  MatrixD at_pivots = columns_of(right, pivots);
  MatrixD solved = transposed(columns_of(right, others));
  if (!solve_general(at_pivots, solved)) fail(ErrorKind::internal, "the pivots of a factor depend on each other");
  return transposed(solved);
}

/// Z = [I | T] as stored.
Part store_pivoted(const MatrixD& right, std::size_t rank, ConstViewD h, const std::shared_ptr<const Grid>& grid,
                   std::string& remarks) {
  const std::vector<std::size_t> order = pivot_columns(right);
  const std::size_t found = right.rows();
  const std::span<const std::size_t> all(order);
  // Where W has less rank than there is room for, any further columns are as good as others.
  std::vector<std::size_t> pivots(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(rank));
  std::vector<std::size_t> others(all.begin() + static_cast<std::ptrdiff_t>(rank), all.end());
  const MatrixD t = padded(interpolation(right, std::span(pivots).first(found), others), {rank, others.size()});
  return std::make_shared<PivotedTensor>(pivots, store_matrix(to_single(t), sub_moment(h, others), grid, remarks));
}

}  // namespace

std::string_view name_of(FactorForm form) { return std::ranges::find(kForms, form, &Named<FactorForm>::value)->name; }

FactorForm read_factor_form(MapReader& options) {
  return options.optional("form").one_of<FactorForm>(kForms).value_or(FactorForm::plain);
}

std::string FactorBudget::in_words() const {
  if (keep > 0) return fmt::format("keep={} align={}", keep, align);
  return rank > 0 ? fmt::format("rank={}", rank) : fmt::format("rank={}% align={}", 100 * rank_part, align);
}

FactorBudget read_budget(MapReader& options, const FactorBudget& otherwise) {
  FactorBudget budget;
  const Value keep = options.optional("keep");
  const Value rank = options.optional("rank");
  const auto part = keep.percent();
  if (part && *part <= 0) keep.complain("must be more than 0%: the part of the layer's numbers that stays");
  budget.keep = part.value_or(0);
  if (rank.present() && rank.is_percent())
    budget.rank_part = rank.percent().value_or(0);
  else
    budget.rank = rank.count(1, kMaxRank).value_or(0);
  if (rank.present() && rank.is_percent() && budget.rank_part <= 0) rank.complain("must be more than 0%");
  budget.align = options.optional("align").count(1, 1024).value_or(budget.align);
  if (rank.present() && keep.present()) rank.complain("and keep exclude each other");
  if (!rank.present() && !keep.present()) {
    if (otherwise.keep == 0 && otherwise.rank == 0) options.required("keep");  // reports its absence
    budget.keep = otherwise.keep;
    budget.rank = otherwise.rank;
  }
  if (budget.keep == 0 && budget.rank == 0 && budget.rank_part == 0) budget.keep = 1;  // reported
  return budget;
}

RankChoice choose_rank(const FactorBudget& budget, FactorForm form, const Target& target, std::size_t sharers) {
  const Shape shape = target.shape;
  const std::size_t most = std::min(sharers * shape.rows, shape.cols);
  const auto whole = static_cast<double>(shape.count());
  if (budget.keep == 0) {
    const std::size_t side = std::min(shape.rows, shape.cols);
    const auto part = static_cast<std::size_t>(budget.rank_part * static_cast<double>(side) + 1e-9);
    const std::size_t wanted = budget.rank > 0 ? budget.rank : part / budget.align * budget.align;
    if (wanted == 0)
      return {0, fmt::format("rank {:g}% is {} of {}, less than align: {}", 100 * budget.rank_part, part, most,
                             budget.align)};
    if (wanted >= most || numbers(wanted, form, shape, sharers) >= whole) return {};
    if (auto reason = cannot_hold(target.grid, wanted, form, shape)) return {0, *reason};
    return {wanted, std::nullopt};
  }
  if (budget.keep >= 1) return {};
  std::size_t rank = 0;
  while (rank < most && numbers(rank + 1, form, shape, sharers) <= budget.keep * whole) ++rank;
  for (std::size_t aligned = rank / budget.align * budget.align; aligned > 0; aligned -= budget.align)
    if (!cannot_hold(target.grid, aligned, form, shape)) return {aligned, std::nullopt};
  if (rank < budget.align)
    return {0, fmt::format("keep {:g}% leaves rank {} of {}, less than align: {}; keep at least {:.2g}%, or align: 1",
                           100 * budget.keep, rank, most, budget.align,
                           100 * numbers(budget.align, form, shape, sharers) / whole)};
  return {0, fmt::format("no rank up to {} suits the grid of the factors: {}", rank,
                         cannot_hold(target.grid, rank, form, shape).value_or(""))};
}

std::string factor_format(std::size_t rank, FactorForm form, const Grid& grid, const std::string& owner) {
  if (rank == 0) return grid.name();
  std::string right = form == FactorForm::pivoted ? pivoted_format(grid.name()) : grid.name();
  if (!owner.empty()) right = shared_format({owner, std::move(right)});
  return product_format({rank, grid.name(), std::move(right)});
}

Part store_matrix(ConstViewF values, ConstViewD h, const std::shared_ptr<const Grid>& grid, std::string& remarks) {
  if (const auto dtype = grid->float_values()) return std::make_shared<DenseTensor>(make_dense(values, *dtype));
  GptqOptions options;
  options.shift = 0;
  Problem problem{{values}, {}, grid};
  double largest = 0;
  for (std::size_t i = 0; i < h.rows(); ++i) largest = std::max(largest, h(i, i));
  if (largest > 0) problem.hessian = h;
  const Solution solution = std::move(make_gptq(options)->solve(problem).front());
  if (!solution.report.fallback.empty()) add_remark(remarks, "factors: " + solution.report.fallback);
  return solution.tensor;
}

Part store_right(const MatrixD& right, std::size_t rank, ConstViewD h, FactorForm form,
                 const std::shared_ptr<const Grid>& grid, std::string& remarks) {
  assert(right.rows() <= rank);
  if (form == FactorForm::pivoted) return store_pivoted(right, rank, h, grid, remarks);
  return store_matrix(to_single(padded(right, {rank, right.cols()})), h, grid, remarks);
}

Part store_left(ConstViewD weights, ConstViewD h, const CompressedTensor& right,
                const std::shared_ptr<const Grid>& grid, std::string& remarks) {
  const MatrixD stored = to_double(right.decode());
  const MatrixD moment = product_nt(times_moment(stored, h), stored);
  return store_matrix(to_single(best_left(weights, h, stored)), moment, grid, remarks);
}

Part store_factors(ConstViewD weights, ConstViewD h, const Factors& factors, std::size_t rank, FactorForm form,
                   const std::shared_ptr<const Grid>& grid, std::string& remarks) {
  const Part right = store_right(factors.right, rank, h, form, grid, remarks);
  return std::make_shared<ProductTensor>(store_left(weights, h, *right, grid, remarks), right);
}

}  // namespace adze
