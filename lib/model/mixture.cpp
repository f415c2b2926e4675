#include "model/mixture.h"

#include <algorithm>
#include <cassert>
#include <cmath>

namespace adze {
namespace {

void softmax(std::span<float> row) {
  const float largest = *std::ranges::max_element(row);
  float sum = 0;
  for (float& value : row) sum += value = std::exp(value - largest);
  for (float& value : row) value /= sum;
}

/// Experts of the `count` largest scores, the largest first. Any scores will do, NaN among them.
void choose(std::span<const float> scores, std::size_t count, std::vector<std::size_t>& chosen) {
  chosen.clear();
  while (chosen.size() < count) {
    std::size_t best = scores.size();
    for (std::size_t e = 0; e < scores.size(); ++e)
      if (std::ranges::find(chosen, e) == chosen.end() && (best == scores.size() || scores[e] > scores[best])) best = e;
    chosen.push_back(best);
  }
}

}  // namespace

Routing route_tokens(const Architecture& architecture, ViewF logits) {
  assert(logits.cols() == architecture.experts);
  Routing routing(architecture.experts);
  std::vector<std::size_t> chosen;
  for (std::size_t t = 0; t < logits.rows(); ++t) {
    const std::span<float> scores = logits.row(t);
    softmax(scores);
    choose(scores, architecture.experts_per_token, chosen);
    float sum = 1;
    if (architecture.renormalised) {
      sum = 0;
      for (const std::size_t e : chosen) sum += scores[e];
    }
    for (const std::size_t e : chosen) routing[e].push_back({static_cast<std::uint32_t>(t), scores[e] / sum});
  }
  return routing;
}

}  // namespace adze
