// Picking the least of many scores, an exact number of them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace adze {

/// Calls body(index) for the `count` least scores, in order of their index; of equal ones the first. What is not a
/// number counts as infinite: it would break the order that the search relies on.
template <typename Body>
void for_least(std::span<const float> scores, std::uint64_t count, Body&& body) {
  if (count == 0) return;
  std::vector<float> ranked(scores.begin(), scores.end());
  for (float& score : ranked)
    if (std::isnan(score)) score = std::numeric_limits<float>::infinity();
  std::vector<float> sorted = ranked;
  const auto last = sorted.begin() + static_cast<std::ptrdiff_t>(count - 1);
  std::nth_element(sorted.begin(), last, sorted.end());
  const float threshold = *last;
  const auto less = std::count_if(sorted.begin(), last, [&](float score) { return score < threshold; });
  std::uint64_t ties = count - static_cast<std::uint64_t>(less);
  for (std::size_t i = 0; i < ranked.size(); ++i) {
    if (ranked[i] > threshold || (ranked[i] == threshold && ties == 0)) continue;
    if (ranked[i] == threshold) --ties;
    body(i);
  }
}

}  // namespace adze
