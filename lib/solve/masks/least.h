// Picking the least of many scores, an exact number of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace adze {

/// Where the `count` least scores end: everything below `score` is among them, and of those equal to it the first
/// `equal`.
struct LeastScores {
  float score = 0;
  std::uint64_t equal = 0;
};

/// scores: not negative, no NaN; 0 < count <= scores.size(). In parallel, the same for any number of threads.
LeastScores find_least(std::span<const float> scores, std::uint64_t count);

/// Scores as find_least takes them: what is not a number counts as infinite, for it would break the order; a loss that
/// rounding has made negative counts as zero.
void make_comparable(std::span<float> scores);

/// Calls body(index) for the `count` least scores, in order of their index; of equal ones the first.
template <typename Body>
void for_least(std::span<const float> scores, std::uint64_t count, Body&& body) {
  if (count == 0) return;
  std::vector<float> ranked(scores.begin(), scores.end());
  make_comparable(ranked);
  LeastScores least = find_least(ranked, count);
  for (std::size_t i = 0; i < ranked.size(); ++i) {
    if (ranked[i] > least.score || (ranked[i] == least.score && least.equal == 0)) continue;
    if (ranked[i] == least.score) --least.equal;
    body(i);
  }
}

}  // namespace adze
