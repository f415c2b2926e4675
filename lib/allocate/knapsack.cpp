#include "allocate/knapsack.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <numeric>
#include <optional>

#include "base/checked.h"
#include "base/error.h"
#include "base/parallel.h"

namespace adze {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// A unit's options that no other one beats in both, by cost; indices into the unit.
std::vector<std::size_t> undominated(const AllocationUnit& unit) {
  std::vector<std::size_t> order(unit.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) {
    return unit[a].cost != unit[b].cost ? unit[a].cost < unit[b].cost : unit[a].loss < unit[b].loss;
  });
  std::vector<std::size_t> kept;
  for (const std::size_t o : order)
    if (kept.empty() || unit[o].loss < unit[kept.back()].loss) kept.push_back(o);
  return kept;
}

double slope(const AllocationOption& from, const AllocationOption& to) {
  return (from.loss - to.loss) / static_cast<double>(to.cost - from.cost);
}

/// The lower convex hull of those: slopes fall from segment to segment.
std::vector<std::size_t> hull(const AllocationUnit& unit, const std::vector<std::size_t>& options) {
  std::vector<std::size_t> points;
  for (const std::size_t o : options) {
    while (points.size() >= 2 &&
           slope(unit[points[points.size() - 2]], unit[points.back()]) <= slope(unit[points.back()], unit[o]))
      points.pop_back();
    points.push_back(o);
  }
  return points;
}

/// One step along a unit's hull.
struct Segment {
  std::size_t unit, option;  ///< what it leads to
  std::uint64_t cost;
  double drop, slope;
};

struct Tables {
  std::vector<std::vector<std::size_t>> options;  ///< undominated, by cost
  std::vector<std::size_t> cheapest;
  std::vector<Segment> segments;  ///< of all hulls, steepest first
};

Tables tables_of(std::span<const AllocationUnit> units) {
  Tables tables;
  for (std::size_t u = 0; u < units.size(); ++u) {
    tables.options.push_back(undominated(units[u]));
    const std::vector<std::size_t> points = hull(units[u], tables.options.back());
    tables.cheapest.push_back(points.front());
    for (std::size_t i = 1; i < points.size(); ++i) {
      const AllocationOption& from = units[u][points[i - 1]];
      const AllocationOption& to = units[u][points[i]];
      tables.segments.push_back({u, points[i], to.cost - from.cost, from.loss - to.loss, slope(from, to)});
    }
  }
  std::ranges::stable_sort(tables.segments, std::greater{}, &Segment::slope);  // of one unit they are in order
  return tables;
}

void total(std::span<const AllocationUnit> units, Allocation& allocation) {
  allocation.cost = allocation.work = 0;
  allocation.loss = 0;
  for (std::size_t u = 0; u < units.size(); ++u) {
    const AllocationOption& option = units[u][allocation.choice[u]];
    allocation.cost = checked_add(allocation.cost, option.cost);
    allocation.loss += option.loss;
    allocation.work = checked_add(allocation.work, option.work);
  }
}

void require_possible(std::span<const AllocationUnit> units, std::uint64_t budget) {
  const CostRange range = cost_range(units);
  if (budget < range.least)
    fail(ErrorKind::bad_recipe, "a budget of {} bytes is below the smallest possible, {}", budget, range.least);
}

/// Upgrades of whatever kind that still fit, the steepest first.
void fill(std::span<const AllocationUnit> units, std::uint64_t budget, Allocation& allocation) {
  total(units, allocation);
  for (;;) {
    double steepest = 0;
    std::size_t unit = 0, option = 0;
    for (std::size_t u = 0; u < units.size(); ++u) {
      const AllocationOption& now = units[u][allocation.choice[u]];
      for (std::size_t o = 0; o < units[u].size(); ++o) {
        const AllocationOption& other = units[u][o];
        if (!(other.loss < now.loss) || allocation.cost - now.cost + other.cost > budget) continue;
        const double gain = other.cost > now.cost ? slope(now, other) : kInfinity;
        if (gain <= steepest) continue;
        steepest = gain;
        unit = u;
        option = o;
      }
    }
    if (steepest == 0) return;
    allocation.choice[unit] = option;
    total(units, allocation);
  }
}

Allocation by_slopes(std::span<const AllocationUnit> units, std::uint64_t budget, const Tables& tables) {
  Allocation allocation{tables.cheapest, 0, 0, 0, 0};
  total(units, allocation);
  std::vector<bool> stopped(units.size(), false);
  std::uint64_t left = budget - allocation.cost;
  double bound = allocation.loss;
  bool split = false;
  for (const Segment& segment : tables.segments) {
    if (!split) {  // of the linear relaxation: steps are taken in order, the last one in part
      const bool fits = segment.cost <= left;
      bound -= fits ? segment.drop : segment.drop * static_cast<double>(left) / static_cast<double>(segment.cost);
      split = !fits;
    }
    if (stopped[segment.unit] || segment.cost > left) {
      stopped[segment.unit] = true;
      continue;
    }
    allocation.choice[segment.unit] = segment.option;
    left -= segment.cost;
  }
  fill(units, budget, allocation);
  allocation.bound = std::min(std::max(bound, 0.0), allocation.loss);
  return allocation;
}

/// min over options of D[k - cost] + loss, with the option that reaches it. Units one after the other, buckets side by
/// side on all threads.
class Programme {
 public:
  Programme(std::size_t units, std::size_t buckets)
      : buckets_(buckets), losses_(buckets + 1, 0.0), next_(buckets + 1), taken_(units * (buckets + 1)) {}

  /// costs: in buckets above the cheapest; options of one unit.
  void add(std::size_t unit, const std::vector<std::uint64_t>& costs, const std::vector<double>& losses) {
    constexpr std::size_t kPiece = 4096;
    std::uint16_t* const taken = &taken_[unit * (buckets_ + 1)];
    parallel_for(divide_up(buckets_ + 1, kPiece), [&](std::size_t piece) {
      const std::size_t first = piece * kPiece, last = std::min(first + kPiece, buckets_ + 1);
      std::fill(next_.begin() + static_cast<std::ptrdiff_t>(first), next_.begin() + static_cast<std::ptrdiff_t>(last),
                kInfinity);
      for (std::size_t o = 0; o < costs.size(); ++o) {
        const double loss = losses[o];
        for (std::size_t k = std::max<std::size_t>(first, costs[o]); k < last; ++k) {
          const double sum = losses_[k - costs[o]] + loss;
          const bool better = sum < next_[k];
          next_[k] = better ? sum : next_[k];
          taken[k] = better ? static_cast<std::uint16_t>(o) : taken[k];
        }
      }
    });
    std::swap(losses_, next_);
  }

  std::size_t taken(std::size_t unit, std::size_t bucket) const { return taken_[unit * (buckets_ + 1) + bucket]; }

 private:
  std::size_t buckets_;
  std::vector<double> losses_, next_;  ///< with at most k buckets spent
  std::vector<std::uint16_t> taken_;
};

/// What is left of the budget above the cheapest choice, in buckets of `unit` bytes.
struct Buckets {
  std::uint64_t unit = 1;
  std::size_t count = 0;
};

Buckets buckets_for(std::span<const AllocationUnit> units, const Tables& tables, std::uint64_t left,
                    std::size_t most_buckets) {
  std::uint64_t divisor = 0;
  for (std::size_t u = 0; u < units.size(); ++u)
    for (const std::size_t o : tables.options[u])
      divisor = std::gcd(divisor, units[u][o].cost - units[u][tables.options[u].front()].cost);
  if (divisor == 0) return {1, 0};  // every unit has one option
  const std::uint64_t unit = std::max<std::uint64_t>(divisor, divide_up(left, std::uint64_t{most_buckets}));
  return {unit, static_cast<std::size_t>(left / unit)};
}

/// Sums of losses while one after the other changes, in the time of a logarithm; zero where all are, whatever they
/// were.
class LossSum {
 public:
  explicit LossSum(std::size_t count) : leaves_(std::bit_ceil(std::max<std::size_t>(count, 1))), sums_(2 * leaves_) {}

  void set(std::size_t i, double loss) {
    std::size_t node = leaves_ + i;
    sums_[node] = loss;
    while (node > 1) {
      node /= 2;
      sums_[node] = sums_[2 * node] + sums_[2 * node + 1];
    }
  }
  double all() const { return sums_[1]; }

 private:
  std::size_t leaves_;
  std::vector<double> sums_;  ///< a binary tree, node n above 2 n and 2 n + 1
};

Allocation by_programme(std::span<const AllocationUnit> units, std::uint64_t budget, const Tables& tables,
                        std::size_t most_buckets) {
  Allocation allocation{tables.cheapest, 0, 0, 0, 0};
  total(units, allocation);
  const Buckets buckets = buckets_for(units, tables, budget - allocation.cost, most_buckets);
  Programme programme(units.size(), buckets.count);
  std::vector<std::vector<std::uint64_t>> costs(units.size());
  for (std::size_t u = 0; u < units.size(); ++u) {
    const auto& options = tables.options[u];
    std::vector<double> losses;
    for (const std::size_t o : options) {
      costs[u].push_back(divide_up(units[u][o].cost - units[u][options.front()].cost, buckets.unit));
      losses.push_back(units[u][o].loss);
    }
    programme.add(u, costs[u], losses);
  }
  std::size_t bucket = buckets.count;
  for (std::size_t u = units.size(); u-- > 0;) {
    const std::size_t taken = programme.taken(u, bucket);
    allocation.choice[u] = tables.options[u][taken];
    bucket -= costs[u][taken];
  }
  fill(units, budget, allocation);
  return allocation;
}

}  // namespace

CostRange cost_range(std::span<const AllocationUnit> units) {
  CostRange range;
  for (const AllocationUnit& unit : units) {
    const auto [least, most] = std::ranges::minmax(unit, {}, &AllocationOption::cost);
    range.least = checked_add(range.least, least.cost);
    range.most = checked_add(range.most, most.cost);
  }
  return range;
}

Allocation allocate_by_slopes(std::span<const AllocationUnit> units, std::uint64_t budget) {
  require_possible(units, budget);
  return by_slopes(units, budget, tables_of(units));
}

Allocation allocate(std::span<const AllocationUnit> units, std::uint64_t budget, std::size_t most_buckets) {
  require_possible(units, budget);
  const Tables tables = tables_of(units);
  Allocation slopes = by_slopes(units, budget, tables);
  if (slopes.loss <= slopes.bound || units.size() > kMostCells / (most_buckets + 1)) return slopes;
  Allocation exact = by_programme(units, budget, tables, most_buckets);
  if (!(exact.loss < slopes.loss)) return slopes;
  exact.bound = std::min(slopes.bound, exact.loss);
  return exact;
}

Allocation allocate_within(std::span<const AllocationUnit> units, std::uint64_t budget, std::uint64_t work) {
  require_possible(units, budget);
  Allocation best = allocate(units, budget);
  total(units, best);
  if (best.work <= work) return best;
  std::optional<Allocation> found;
  double bound = best.bound;
  // g(price) = min (loss + price work) - price * budget of work is below every choice that keeps both.
  const auto try_price = [&](double price) {
    std::vector<AllocationUnit> priced(units.begin(), units.end());
    for (AllocationUnit& unit : priced)
      for (AllocationOption& option : unit) option.loss += price * static_cast<double>(option.work);
    Allocation allocation = allocate(priced, budget);
    bound = std::max(bound, allocation.bound - price * static_cast<double>(work));
    total(units, allocation);
    const bool keeps = allocation.work <= work;
    if (keeps && (!found || allocation.loss < found->loss)) found = std::move(allocation);
    return keeps;
  };
  double low = 0, high = 0;
  for (const AllocationUnit& unit : units)
    for (const AllocationOption& option : unit)
      if (option.work > 0) high = std::max(high, option.loss / static_cast<double>(option.work));
  high = high > 0 ? high : 1;
  int doublings = 0;
  while (!try_price(high) && ++doublings < 40) high *= 2;
  if (!found) fail(ErrorKind::bad_recipe, "no choice of {} bytes takes as little as {} multiplications", budget, work);
  for (int halving = 0; halving < 40 && high - low > 1e-6 * high; ++halving) {
    const double middle = 0.5 * (low + high);
    (try_price(middle) ? high : low) = middle;
  }
  found->bound = std::min(bound, found->loss);
  return *found;
}

Allocation allocate_for_loss(std::span<const AllocationUnit> units, double most_loss) {
  constexpr double kPrecision = 1e-5;
  double least_loss = 0;
  for (const AllocationUnit& unit : units) least_loss += std::ranges::min(unit, {}, &AllocationOption::loss).loss;
  if (least_loss > most_loss)
    fail(ErrorKind::bad_recipe, "a loss of {:.4g} is below the least possible, {:.4g}", most_loss, least_loss);
  // The front brackets the budget; between two of its points the knapsack may do better than the dearer one.
  const std::vector<FrontPoint> points = front(units).points;
  const auto reaches = std::ranges::find_if(points, [&](const FrontPoint& point) { return point.loss <= most_loss; });
  std::uint64_t high = reaches == points.end() ? cost_range(units).most : reaches->cost;
  std::uint64_t low = reaches == points.begin() ? high : std::prev(reaches)->cost;
  Allocation best = allocate(units, high);
  while (low + 1 < high && static_cast<double>(high - low) > kPrecision * static_cast<double>(high)) {
    const std::uint64_t middle = low + (high - low) / 2;
    Allocation allocation = allocate(units, middle);
    if (allocation.loss <= most_loss) {
      high = allocation.cost;
      best = std::move(allocation);
    } else {
      low = middle;
    }
  }
  return best;
}

std::vector<std::size_t> Front::choice(std::size_t point) const {
  std::vector<std::size_t> choice = cheapest;
  for (std::size_t p = 1; p <= point; ++p) choice[points[p].unit] = points[p].option;
  return choice;
}

Front front(std::span<const AllocationUnit> units) {
  const Tables tables = tables_of(units);
  Allocation cheapest{tables.cheapest, 0, 0, 0, 0};
  total(units, cheapest);
  LossSum losses(units.size());
  for (std::size_t u = 0; u < units.size(); ++u) losses.set(u, units[u][tables.cheapest[u]].loss);
  Front front{tables.cheapest, {{cheapest.cost, losses.all()}}};
  std::uint64_t cost = cheapest.cost;
  for (const Segment& segment : tables.segments) {
    cost = checked_add(cost, segment.cost);
    losses.set(segment.unit, units[segment.unit][segment.option].loss);
    front.points.push_back({cost, losses.all(), segment.unit, segment.option});
  }
  return front;
}

}  // namespace adze
