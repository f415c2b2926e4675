// Exchanges one at a time against all pairs, listed and sorted.
#include "allocate/exchanges.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <tuple>

#include "base/random.h"

namespace adze {
namespace {

struct Problem {
  std::vector<AllocationUnit> units;
  std::vector<std::size_t> choice;
};

/// Few different losses and costs, so that many pairs are equal.
Problem random_problem(RandomStream& random, std::size_t units) {
  Problem problem;
  for (std::size_t u = 0; u < units; ++u) {
    AllocationUnit& unit = problem.units.emplace_back();
    const std::size_t count = 1 + random.below(5);
    for (std::size_t o = 0; o < count; ++o)
      unit.push_back({random.below(12), static_cast<double>(random.below(8)), random.below(20)});
    problem.choice.push_back(random.below(count));
  }
  return problem;
}

std::vector<Exchange> all_pairs(const Problem& problem, std::uint64_t room, std::optional<std::uint64_t> work_room) {
  std::vector<Exchange> pairs;
  const std::vector<AllocationUnit>& units = problem.units;
  const auto now = [&](std::size_t u) { return units[u][problem.choice[u]]; };
  for (std::size_t up = 0; up < units.size(); ++up)
    for (std::size_t a = 0; a < units[up].size(); ++a)
      for (std::size_t down = 0; down < units.size(); ++down)
        for (std::size_t b = 0; b < units[down].size(); ++b) {
          const AllocationOption &better = units[up][a], &cheaper = units[down][b];
          if (up == down || !(better.loss < now(up).loss) || cheaper.cost >= now(down).cost) continue;
          if (better.cost + cheaper.cost > now(up).cost + now(down).cost + room) continue;
          if (work_room && better.work + cheaper.work > now(up).work + now(down).work + *work_room) continue;
          pairs.push_back({up, a, down, b, (better.loss - now(up).loss) + (cheaper.loss - now(down).loss)});
        }
  std::ranges::stable_sort(pairs, {}, &Exchange::change);
  return pairs;
}

TEST(Exchanges, ComeInTheOrderOfAllPairs) {
  RandomStream random(3, "exchanges");
  std::size_t seen = 0;
  for (int i = 0; i < 1500; ++i) {
    const Problem problem = random_problem(random, random.below(9));
    const std::uint64_t room = random.below(6);
    const auto work_room = random.below(2) == 0 ? std::optional<std::uint64_t>(random.below(10)) : std::nullopt;
    Exchanges exchanges(problem.units, problem.choice, room, work_room);
    for (const Exchange& wanted : all_pairs(problem, room, work_room)) {
      const std::optional<Exchange> found = exchanges.next();
      ASSERT_TRUE(found) << i;
      EXPECT_EQ(found->change, wanted.change) << i;
      EXPECT_EQ(std::tuple(found->up, found->up_option, found->down, found->down_option),
                std::tuple(wanted.up, wanted.up_option, wanted.down, wanted.down_option))
          << i;
      ++seen;
    }
    EXPECT_FALSE(exchanges.next()) << i;
  }
  EXPECT_GT(seen, 10000U);
}

/// As many pairs as would not fit into memory: those of 20000 units are never listed.
TEST(Exchanges, OfManyUnitsTheFirstAreThere) {
  RandomStream random(4, "many exchanges");
  const Problem problem = random_problem(random, 20000);
  Exchanges exchanges(problem.units, problem.choice, 0, std::nullopt);
  double before = -16;
  for (int i = 0; i < 100; ++i) {
    const std::optional<Exchange> found = exchanges.next();
    ASSERT_TRUE(found);
    EXPECT_GE(found->change, before);
    before = found->change;
  }
}

}  // namespace
}  // namespace adze
