// The knapsack against the specification's table, exhaustive search and its own bound.
#include "allocate/knapsack.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/parallel.h"
#include "base/random.h"

namespace adze {
namespace {

using ::testing::HasSubstr;

/// Specification allocation.md, section 11.
std::vector<AllocationUnit> golden() {
  return {{{2, 9}, {3, 4}, {4, 1.5}, {8, 0}},
          {{2, 3}, {3, 2.6}, {4, .5}, {8, 0}},
          {{4, 20}, {6, 6}, {8, 1}, {16, 0}},
          {{1, .8}, {2, .7}, {3, .1}, {6, 0}}};
}

TEST(Knapsack, IsThatOfTheGoldenTable) {
  const struct {
    std::uint64_t budget;
    std::vector<std::uint64_t> costs;
    double loss, bound;
  } cases[] = {{9, {2, 2, 4, 1}, 32.8, 32.8},  {10, {3, 2, 4, 1}, 27.8, 25.8}, {12, {3, 2, 6, 1}, 13.8, 13.8},
               {14, {3, 2, 8, 1}, 8.8, 8.8},   {16, {4, 3, 8, 1}, 5.9, 5.05},  {17, {4, 4, 8, 1}, 3.8, 3.8},
               {18, {4, 4, 8, 2}, 3.7, 3.425}, {19, {4, 4, 8, 3}, 3.1, 3.05},  {24, {8, 4, 8, 3}, 1.6, 1.475},
               {38, {8, 8, 16, 6}, 0, 0}};
  for (const auto& one : cases) {
    const auto units = golden();
    const Allocation found = allocate(units, one.budget);
    std::vector<std::uint64_t> costs;
    for (std::size_t u = 0; u < 4; ++u) costs.push_back(units[u][found.choice[u]].cost);
    EXPECT_EQ(costs, one.costs) << one.budget;
    EXPECT_NEAR(found.loss, one.loss, 1e-12) << one.budget;
    EXPECT_NEAR(found.bound, one.bound, 1e-12) << one.budget;
    EXPECT_LE(found.cost, one.budget);
  }
  EXPECT_EQ(cost_range(golden()).least, 9U);
  EXPECT_EQ(cost_range(golden()).most, 38U);
}

TEST(Knapsack, SaysWhatTheSmallestIs) {
  for (const auto& tried : {allocate_by_slopes, +[](std::span<const AllocationUnit> units, std::uint64_t budget) {
                              return allocate(units, budget);
                            }}) {
    try {
      tried(golden(), 8);
      FAIL();
    } catch (const Error& error) {
      EXPECT_THAT(error.message(), HasSubstr("a budget of 8 bytes is below the smallest possible, 9"));
    }
  }
}

std::vector<AllocationUnit> random_units(RandomStream& random, std::size_t units, std::size_t options,
                                         std::uint64_t step) {
  std::vector<AllocationUnit> all(units);
  for (AllocationUnit& unit : all) {
    const std::size_t count = 1 + random.below(options);
    for (std::size_t o = 0; o < count; ++o) {
      const std::uint64_t cost = step * random.below(40);
      unit.push_back({cost, std::fabs(random.normal()) / (1.0 + static_cast<double>(cost / step) * random.uniform())});
    }
  }
  return all;
}

/// Calls with every choice's cost, work and loss.
template <typename Visit>
void every_choice(const std::vector<AllocationUnit>& units, Visit&& visit) {
  std::vector<std::size_t> choice(units.size());
  for (;;) {
    std::uint64_t cost = 0, work = 0;
    double loss = 0;
    for (std::size_t u = 0; u < units.size(); ++u) {
      cost += units[u][choice[u]].cost;
      work += units[u][choice[u]].work;
      loss += units[u][choice[u]].loss;
    }
    visit(cost, work, loss);
    std::size_t u = 0;
    while (u < units.size() && ++choice[u] == units[u].size()) choice[u++] = 0;
    if (u == units.size()) return;
  }
}

double by_exhaustion(const std::vector<AllocationUnit>& units, std::uint64_t budget,
                     std::uint64_t most_work = std::numeric_limits<std::uint64_t>::max()) {
  double best = std::numeric_limits<double>::infinity();
  every_choice(units, [&](std::uint64_t cost, std::uint64_t work, double loss) {
    if (cost <= budget && work <= most_work) best = std::min(best, loss);
  });
  return best;
}

TEST(Knapsack, EqualsExhaustiveSearch) {
  RandomStream random(5, "knapsack");
  for (int i = 0; i < 1000; ++i) {
    const auto units = random_units(random, 1 + random.below(5), 5, 1 + random.below(1000));
    const CostRange range = cost_range(units);
    const std::uint64_t budget = range.least + random.below(range.most - range.least + 2);
    const double best = by_exhaustion(units, budget);
    const Allocation slopes = allocate_by_slopes(units, budget), exact = allocate(units, budget);
    EXPECT_NEAR(exact.loss, best, 1e-12) << i;
    EXPECT_LE(exact.bound, best + 1e-12) << i;
    EXPECT_GE(slopes.loss, best - 1e-12) << i;
    EXPECT_LE(std::max(exact.cost, slopes.cost), budget) << i;
  }
}

TEST(Knapsack, KeepsTwoBudgetsAndSaysHowNearTheBestItIs) {
  RandomStream random(7, "two budgets");
  double excess = 0;
  int kept = 0;
  for (int i = 0; i < 300; ++i) {
    auto units = random_units(random, 2 + random.below(4), 5, 16);
    std::uint64_t least = 0;
    for (AllocationUnit& unit : units) {
      for (AllocationOption& option : unit) option.work = random.below(100);
      least += std::ranges::min(unit, {}, &AllocationOption::work).work;
    }
    const CostRange range = cost_range(units);
    const std::uint64_t budget = range.least + random.below(range.most - range.least + 2);
    const std::uint64_t work = least + random.below(60);
    const double best = by_exhaustion(units, budget, work);
    try {
      const Allocation found = allocate_within(units, budget, work);
      EXPECT_LE(found.cost, budget);
      EXPECT_LE(found.work, work);
      EXPECT_GE(found.loss, best - 1e-12);
      EXPECT_LE(found.bound, best + 1e-9) << i;
      excess += best > 0 ? found.loss / best - 1 : 0;
      ++kept;
    } catch (const Error& error) {
      EXPECT_THAT(error.message(), HasSubstr("multiplications"));
      EXPECT_EQ(best, std::numeric_limits<double>::infinity()) << i;
    }
  }
  EXPECT_GT(kept, 200);
  EXPECT_LT(excess / kept, 0.15);  // prices reach the hull of two budgets, not every choice below it
}

TEST(Knapsack, FindsTheSmallestThatLosesNoMore) {
  RandomStream random(8, "for loss");
  for (int i = 0; i < 200; ++i) {
    const auto units = random_units(random, 1 + random.below(5), 5, 1 + random.below(1000));
    const Allocation most = allocate(units, cost_range(units).most);
    const double wanted = most.loss + random.uniform() * 2;
    std::uint64_t smallest = std::numeric_limits<std::uint64_t>::max();
    every_choice(units, [&](std::uint64_t cost, std::uint64_t, double loss) {
      if (loss <= wanted) smallest = std::min(smallest, cost);
    });
    const Allocation found = allocate_for_loss(units, wanted);
    EXPECT_LE(found.loss, wanted);
    EXPECT_GE(found.cost, smallest);
    EXPECT_LE(static_cast<double>(found.cost), 1.00002 * static_cast<double>(smallest)) << i;
  }
  EXPECT_THROW(allocate_for_loss(golden(), -1), Error);
}

TEST(Knapsack, RoundsCostsUpWhereBucketsAreFew) {
  RandomStream random(6, "buckets");
  for (int i = 0; i < 200; ++i) {
    const auto units = random_units(random, 12, 6, 997);
    const CostRange range = cost_range(units);
    const std::uint64_t budget = range.least + random.below(range.most - range.least + 1);
    const Allocation coarse = allocate(units, budget, 50), exact = allocate(units, budget);
    EXPECT_LE(coarse.cost, budget);
    EXPECT_LE(exact.loss, coarse.loss + 1e-12);
    EXPECT_LE(coarse.loss, allocate_by_slopes(units, budget).loss + 1e-12);
  }
}

TEST(Knapsack, LosesLessWithMoreAndTheSameInAnyOrder) {
  RandomStream random(7, "order");
  auto units = random_units(random, 20, 8, 64);
  const CostRange range = cost_range(units);
  double before = std::numeric_limits<double>::infinity();
  for (std::uint64_t budget = range.least; budget <= range.most; budget += 64) {
    const Allocation found = allocate(units, budget);
    EXPECT_LE(found.loss, before + 1e-12);
    before = found.loss;
  }
  const std::uint64_t middle = (range.least + range.most) / 3;
  const double loss = allocate(units, middle).loss;
  std::ranges::reverse(units);
  EXPECT_NEAR(allocate(units, middle).loss, loss, 1e-12);
}

TEST(Knapsack, OptionsThatCostNothingAndUnitsWithoutAChoiceAreAllRight) {
  const std::vector<AllocationUnit> units{{{0, 5}, {10, 1}}, {{7, 2}}, {{0, 3}, {0, 2}}};
  EXPECT_EQ(allocate(units, 7).loss, 9);
  EXPECT_EQ(allocate(units, 17).choice, (std::vector<std::size_t>{1, 0, 1}));
  EXPECT_EQ(allocate({}, 0).loss, 0);
  const std::vector<AllocationUnit> single{{{7, 2}}, {{3, 1}}};
  EXPECT_EQ(allocate(single, 10).cost, 10U);
}

TEST(Knapsack, FrontIsConvexAndOfWholeChoices) {
  RandomStream random(8, "front");
  const auto units = random_units(random, 15, 8, 16);
  const Front found = front(units);
  const std::vector<FrontPoint>& points = found.points;
  EXPECT_EQ(points.front().cost, cost_range(units).least);
  EXPECT_EQ(found.choice(0), found.cheapest);
  for (std::size_t i = 1; i < points.size(); ++i) {
    std::uint64_t cost = 0;
    double loss = 0;
    const std::vector<std::size_t> choice = found.choice(i);
    for (std::size_t u = 0; u < units.size(); ++u) {
      cost += units[u][choice[u]].cost;
      loss += units[u][choice[u]].loss;
    }
    EXPECT_EQ(points[i].cost, cost);
    EXPECT_NEAR(points[i].loss, loss, 1e-12);
    EXPECT_GT(points[i].cost, points[i - 1].cost);
    EXPECT_LT(points[i].loss, points[i - 1].loss);
    EXPECT_NEAR(allocate(units, points[i].cost).loss, points[i].loss, 1e-12);
  }
}

TEST(Knapsack, IsTheSameWithAnyNumberOfThreads) {
  RandomStream random(9, "threads");
  const auto units = random_units(random, 60, 12, 4096);
  const std::uint64_t budget = cost_range(units).most / 2;
  std::vector<std::vector<std::size_t>> choices;
  for (const int threads : {1, 3}) {
    set_thread_count(threads);
    choices.push_back(allocate(units, budget, 20000).choice);
  }
  set_thread_count(0);
  EXPECT_EQ(choices[0], choices[1]);
}

}  // namespace
}  // namespace adze
