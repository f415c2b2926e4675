#include "grid/fit.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "linalg/scale_search.h"

namespace adze {
namespace {

/// Candidates put the largest magnitude at code `reach`, from beyond the range (clipping it) down to inside it.
/// The finer the grid, the less clipping pays: reach ends at 1.1 x range for 8 bits and at 2.4 x for 2 bits.
struct Reach {
  float first;
  float last;

  float at(std::size_t c) const {
    return first + (last - first) * static_cast<float>(c) / static_cast<float>(kCandidates - 1);
  }
};
Reach reach_for(float range) {
  const float clip = 1.0f + 2.8f / (range + 1.0f);
  return {std::max(range - 0.9f, 0.5f), range * clip + 0.4f};
}

/// Reach of a range of codes, negative where the largest magnitude goes to a negative code.
struct SignedReach {
  Reach reach;
  float per_weight;  ///< candidate's inverse step = reach.at() * per_weight
};
SignedReach reach_of(CodeRange range, float top) {
  // With either sign the extreme goes to the longer side of the range (-8 of -8..7), else to the side of its sign.
  const float magnitude = range.either_sign ? std::max(-range.lo, range.hi) : std::max(range.hi, 1.0f);
  const bool mirrored = range.either_sign && (-range.lo > range.hi) == (top > 0);
  return {reach_for(magnitude), (mirrored ? -1.0f : 1.0f) / std::fabs(top)};
}

Candidates candidates_in(CodeRange range) {
  Candidates candidates;
  candidates.lo.fill(range.lo);
  candidates.hi.fill(range.hi);
  return candidates;
}

/// Least squares for the codes of a candidate: its step grows by el / ll, its error shrinks by el^2 / ll.
struct Refined {
  float step;
  float error;
};
Refined refined(const CandidateMoments& m, float inverse, std::size_t c) {
  const float step = 1.0f / inverse;
  if (!(m.ll[c] > 0)) return {step, m.ee[c] * step * step};
  const float growth = m.el[c] / m.ll[c];
  return {step * (1.0f + growth), (m.ee[c] - growth * m.el[c]) * step * step};
}

/// The candidates of a search without offset, each refined; those that cannot be used have infinite error.
std::array<Refined, kCandidates> refined_candidates(std::span<const float> weights, std::span<const float> importance,
                                                    CodeRange range, float top) {
  const SignedReach reach = reach_of(range, top);
  Candidates candidates = candidates_in(range);
  for (std::size_t c = 0; c < kCandidates; ++c) candidates.inverse[c] = reach.reach.at(c) * reach.per_weight;
  const CandidateMoments m = candidate_moments(weights, importance, candidates, false);
  std::array<Refined, kCandidates> all;
  for (std::size_t c = 0; c < kCandidates; ++c) {
    all[c] = refined(m, candidates.inverse[c], c);
    if (!range.either_sign && !(all[c].step > 0)) all[c].error = INFINITY;
  }
  return all;
}

/// The best of steps by the errors of their own codes. A step of zero is none.
float best_stored(std::span<const float> weights, std::span<const float> importance, CodeRange range,
                  const std::array<float, kCandidates>& steps) {
  Candidates candidates = candidates_in(range);
  for (std::size_t c = 0; c < kCandidates; ++c) candidates.inverse[c] = steps[c] != 0 ? 1.0f / steps[c] : 0.0f;
  const CandidateMoments m = candidate_moments(weights, importance, candidates, false);
  Refined best{0, INFINITY};
  for (std::size_t c = 0; c < kCandidates; ++c)
    if (const float error = m.ee[c] * steps[c] * steps[c]; steps[c] != 0 && error < best.error)
      best = {steps[c], error};
  return best.step;
}

}  // namespace

float store_scale(DType dtype, float scale) {
  const float largest = dtype == DType::f16 ? 65504.0f : 1.0e36f;  // 256 times it is still a float
  const float clamped = std::clamp(scale, -largest, largest);
  if (dtype == DType::f16) return f16_to_float(float_to_f16(clamped));
  if (dtype == DType::bf16) return bf16_to_float(float_to_bf16(clamped));
  return clamped;
}

Extremes extremes_of(std::span<const float> weights, std::span<const float> importance) {
  const bool any = std::ranges::any_of(importance, [](float h) { return h > 0; });
  Extremes extremes;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const float w = any && !(importance[i] > 0) ? 0.0f : weights[i];
    extremes.lo = std::min(extremes.lo, w);
    extremes.hi = std::max(extremes.hi, w);
  }
  return extremes;
}

float fit_scale(std::span<const float> weights, std::span<const float> importance, CodeRange range) {
  const float top = extremes_of(weights, importance).top();
  if (std::fabs(top) < kNegligible) return 0;
  const auto all = refined_candidates(weights, importance, range, top);
  const auto best = std::ranges::min_element(all, {}, &Refined::error);
  return std::isfinite(best->error) ? best->step : 0.0f;
}

float fit_stored_scale(std::span<const float> weights, std::span<const float> importance, CodeRange range, DType dtype,
                       float plain) {
  const float top = extremes_of(weights, importance).top();
  if (std::fabs(top) < kNegligible) return 0;
  const auto all = refined_candidates(weights, importance, range, top);
  std::array<float, kCandidates> steps;
  for (std::size_t c = 0; c < kCandidates; ++c)
    steps[c] = std::isfinite(all[c].error) ? store_scale(dtype, all[c].step) : 0.0f;
  const auto worst = std::ranges::max_element(all, {}, &Refined::error) - all.begin();
  steps[static_cast<std::size_t>(worst)] = plain;
  const float best = best_stored(weights, importance, range, steps);
  return best == 0 ? plain : best;
}

float fit_level_scale(std::span<const float> weights, std::span<const float> importance,
                      std::span<const float> levels) {
  const float top = extremes_of(weights, importance).top();
  if (std::fabs(top) < kNegligible) return 0;
  Refined best{0, INFINITY};
  // The extreme goes near the lowest level, a little inside and a good deal outside, and likewise near the highest.
  for (const float level : {levels.front(), levels.back()}) {
    CandidateArray inverse;
    for (std::size_t c = 0; c < kCandidates; ++c) inverse[c] = level * (0.94f + 0.02f * static_cast<float>(c)) / top;
    inverse[0] = level / top;
    const CandidateMoments m = level_moments(weights, importance, inverse, levels);
    for (std::size_t c = 0; c < kCandidates; ++c)
      if (const Refined candidate = refined(m, inverse[c], c); candidate.error < best.error) best = candidate;
  }
  return best.step;
}

AffineSearch affine_search(float largest_code, bool any_offset) {
  // As the offset is fitted too, a range well inside the codes is often best: the ends round outwards.
  const float first = 0.9f * largest_code - 0.7f;
  const float last = largest_code * (1.0f + 2.4f / (largest_code + 1.0f));
  return {largest_code, first, (last - first) / static_cast<float>(kCandidates - 1), any_offset};
}

}  // namespace adze
