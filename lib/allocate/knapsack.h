// Which unit takes which option under a budget: the multiple-choice knapsack (specification allocation.md, section 1).
//
//   minimise  sum_u loss(u, o(u))   subject to  sum_u cost(u, o(u)) <= budget,   one option per unit
//
// First by slopes of the units' lower convex hulls, which also gives the bound of the linear relaxation; where that
// leaves a gap, by dynamic programming over the budget in buckets, with costs rounded up, so that no budget is ever
// exceeded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace adze {

struct AllocationOption {
  std::uint64_t cost = 0;  ///< bytes
  double loss = 0;         ///< >= 0, in one unit for all
  std::uint64_t work = 0;  ///< of the second budget: multiplications, or time
};

/// What one unit may become; not empty. Units that must agree are one unit, their tables summed.
using AllocationUnit = std::vector<AllocationOption>;

struct Allocation {
  std::vector<std::size_t> choice;  ///< of each unit's options
  std::uint64_t cost = 0;
  double loss = 0;
  double bound = 0;  ///< no choice within the budget loses less
  std::uint64_t work = 0;

  /// How far above the bound, as a part of it; 0 where both are.
  double gap() const { return loss > bound ? (bound > 0 ? loss / bound - 1 : 1) : 0; }
};

/// Costs of the cheapest and of the dearest choice; a budget below the first cannot be kept.
struct CostRange {
  std::uint64_t least = 0, most = 0;
};
CostRange cost_range(std::span<const AllocationUnit> units);

/// By hull slopes alone, then whatever still fits. Throws bad_recipe when the budget is below cost_range().least,
/// naming both.
Allocation allocate_by_slopes(std::span<const AllocationUnit> units, std::uint64_t budget);

/// The better of that and the dynamic programme, which is exact where the costs' greatest common divisor makes no more
/// than `most_buckets` buckets of the budget, and else rounds costs up to that many. Where units and buckets together
/// are beyond kMostCells, slopes alone: what one step leaves of the budget is nothing beside so many. The same whatever
/// the order of units, but for the choice among equals: the first of equal options, the earlier unit upgraded. Throws
/// likewise.
Allocation allocate(std::span<const AllocationUnit> units, std::uint64_t budget, std::size_t most_buckets = 50000);
inline constexpr std::size_t kMostCells = std::size_t{1} << 28;  ///< units times buckets; two bytes each

/// Within two budgets: the second has a price for a unit of work, found by bisection, which is added to losses
/// (specification, 1.5). Least loss among all prices that keep it; exact where a price makes it bind, otherwise near.
/// `bound` is that of the best price. Throws bad_recipe when the least cost or the least work is too much, or where no
/// price keeps both.
Allocation allocate_within(std::span<const AllocationUnit> units, std::uint64_t budget, std::uint64_t work);

/// The least cost that allocate() finds to lose no more than `most_loss`: by bisection of the budget, to a byte or a
/// thousandth of a percent. `bound` as of its budget. Throws bad_recipe when even the best options lose more.
Allocation allocate_for_loss(std::span<const AllocationUnit> units, double most_loss);

/// A budget at which the linear relaxation is a choice of whole options: that of the point before it, but for one unit.
struct FrontPoint {
  std::uint64_t cost = 0;
  double loss = 0;
  std::size_t unit = 0, option = 0;  ///< what has changed; of the first point nothing has
};

/// All of them, cheapest first: the front that one sort gives.
struct Front {
  std::vector<std::size_t> cheapest;  ///< the choice of the first point
  std::vector<FrontPoint> points;     ///< at least one

  /// Of a point's units.
  std::vector<std::size_t> choice(std::size_t point) const;
};
Front front(std::span<const AllocationUnit> units);

}  // namespace adze
