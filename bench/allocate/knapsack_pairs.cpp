// The knapsack of a large model: 500 matrices, 20 options each.
#include <cmath>
#include <cstdlib>
#include <memory>

#include "allocate/knapsack.h"
#include "base/random.h"
#include "pairs.h"

namespace adze::bench {
namespace {

constexpr std::size_t kSize = 4096;

/// Losses fall as roundings' do, by four for each bit more, with noise that leaves options off the hulls.
std::vector<AllocationUnit> make_units() {
  RandomStream random(1, "knapsack pairs");
  std::vector<AllocationUnit> units(500);
  for (AllocationUnit& unit : units) {
    const std::uint64_t weights = 1'000'000 + random.below(50'000'000);
    const double scale = std::exp(2 * random.normal());
    for (int o = 0; o < 20; ++o) {
      const double bits = 2 + 0.3 * o;
      unit.push_back({static_cast<std::uint64_t>(static_cast<double>(weights) * bits / 8),
                      scale * std::pow(4, -bits) * (1 + 0.3 * random.uniform())});
    }
  }
  return units;
}

std::vector<Pair> make_pairs() {
  const auto units = std::make_shared<const std::vector<AllocationUnit>>(make_units());
  const CostRange range = cost_range(*units);
  const std::uint64_t budget = range.least + (range.most - range.least) / 3;
  return {{"knapsack_500x20", "SGEMM 4096x4096x4096, all threads",
           [=] {
             const Allocation found = allocate(*units, budget);
             if (found.cost > budget || found.gap() > 0.001) std::abort();
           },
           sgemm(kSize, kSize, kSize), 0.5}};
}

const bool registered = add("allocate", &make_pairs);

}  // namespace
}  // namespace adze::bench
