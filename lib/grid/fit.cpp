#include "grid/fit.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "linalg/scale_search.h"

namespace adze {
namespace {

constexpr std::size_t kRounds = 2;  // of kCandidates each: more change errors by less than 0.1 %

/// Candidates put the largest magnitude at code `reach`, from beyond the range (clipping it) down to inside it.
/// The finer the grid, the less clipping pays: reach ends at 1.1 x range for 8 bits and at 2.4 x for 2 bits.
struct Reach {
  float first;
  float last;

  float at(std::size_t round, std::size_t c) const {
    constexpr auto kLast = static_cast<float>(kRounds * kCandidates - 1);
    return first + (last - first) * static_cast<float>(round * kCandidates + c) / kLast;
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

/// Calls consider(refined) for every candidate of a search without offset.
template <class Consider>
void for_candidates(std::span<const float> weights, std::span<const float> importance, CodeRange range, float top,
                    Consider&& consider) {
  const SignedReach reach = reach_of(range, top);
  Candidates candidates = candidates_in(range);
  for (std::size_t round = 0; round < kRounds; ++round) {
    for (std::size_t c = 0; c < kCandidates; ++c) candidates.inverse[c] = reach.reach.at(round, c) * reach.per_weight;
    const CandidateMoments m = candidate_moments(weights, importance, candidates, false);
    for (std::size_t c = 0; c < kCandidates; ++c) consider(refined(m, candidates.inverse[c], c));
  }
}

/// Solves [ll l; l w] [a; b] = [el; e]: the step grows by the factor 1 + a, the shift by b. Keeps the best of all.
class BestAffine {
 public:
  BestAffine(double sum_w, OffsetSign sign) : sum_w_(static_cast<float>(sum_w)), sign_(sign) {}

  void consider(const CandidateMoments& m, const Candidates& candidates) {
    for (std::size_t c = 0; c < kCandidates; ++c) {
      const float determinant = sum_w_ * m.ll[c] - m.l[c] * m.l[c];
      const float inverse_determinant = 1.0f / determinant;
      float a = (sum_w_ * m.el[c] - m.l[c] * m.e[c]) * inverse_determinant;
      float b = (m.ll[c] * m.e[c] - m.l[c] * m.el[c]) * inverse_determinant;
      float error = m.ee[c] - a * m.el[c] - b * m.e[c];
      const float shift = candidates.shift[c];
      if (sign_ == OffsetSign::not_positive && shift + b > 0) {
        b = -shift;
        a = (m.el[c] - b * m.l[c]) / m.ll[c];
        error = m.ee[c] - 2 * (a * m.el[c] + b * m.e[c]) + a * a * m.ll[c] + b * b * sum_w_ + 2 * a * b * m.l[c];
      }
      const float unit = 1.0f / candidates.inverse[c];
      error *= unit * unit;
      const bool usable = determinant > 1e-6f * sum_w_ * m.ll[c] && 1.0f + a > 0;
      if (!usable || !(error < error_)) continue;
      error_ = error;
      fit_ = {unit * (1.0f + a), unit * (shift + b)};
    }
  }
  AffineFit fit_or(const AffineFit& other) const { return std::isinf(error_) ? other : fit_; }

 private:
  float sum_w_;
  OffsetSign sign_;
  float error_ = INFINITY;
  AffineFit fit_;
};

/// The best by error of steps that a grid can store.
class BestStored {
 public:
  explicit BestStored(CodeRange range) : candidates_(candidates_in(range)) {}

  void add(float step) {
    if (step != 0) steps_[count_++] = step;
  }
  bool full() const { return count_ == kCandidates; }
  void evaluate(std::span<const float> weights, std::span<const float> importance) {
    for (std::size_t c = 0; c < count_; ++c) candidates_.inverse[c] = 1.0f / steps_[c];
    const CandidateMoments m = candidate_moments(weights, importance, candidates_, false);
    for (std::size_t c = 0; c < count_; ++c) {
      const float error = m.ee[c] * steps_[c] * steps_[c];
      if (!(error < error_)) continue;
      error_ = error;
      step_ = steps_[c];
    }
    count_ = 0;
  }
  float step() const { return step_; }

 private:
  Candidates candidates_;
  std::array<float, kCandidates> steps_{};
  std::size_t count_ = 0;
  float error_ = INFINITY;
  float step_ = 0;
};

}  // namespace

float store_scale(DType dtype, float scale) {
  const float largest = dtype == DType::f16 ? 65504.0f : 3.0e38f;
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
  Refined best{0, INFINITY};
  for_candidates(weights, importance, range, top, [&](const Refined& candidate) {
    const bool usable = range.either_sign || candidate.step > 0;
    if (usable && candidate.error < best.error) best = candidate;
  });
  return best.step;
}

float fit_stored_scale(std::span<const float> weights, std::span<const float> importance, CodeRange range, DType dtype,
                       float plain) {
  const float top = extremes_of(weights, importance).top();
  if (std::fabs(top) < kNegligible) return 0;
  BestStored best(range);
  best.add(plain);
  for_candidates(weights, importance, range, top, [&](const Refined& candidate) {
    if (range.either_sign || candidate.step > 0) best.add(store_scale(dtype, candidate.step));
    if (best.full()) best.evaluate(weights, importance);
  });
  best.evaluate(weights, importance);
  return best.step() == 0 ? plain : best.step();
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

AffineFit fit_step_and_offset(std::span<const float> weights, std::span<const float> importance, float hi,
                              OffsetSign sign) {
  const auto [low, high] = extremes_of(weights, importance);
  if (high - low < kNegligible) return {};
  double sum_w = 0;
  for (const float h : importance) sum_w += h;
  const AffineFit plain{(high - low) / hi, low};
  if (!(sum_w > 0)) return plain;
  const Reach reach = reach_for(hi);
  const float per_weight = 1.0f / (high - low);
  BestAffine best(sum_w, sign);
  Candidates candidates = candidates_in({0.0f, hi, false});
  for (std::size_t round = 0; round < kRounds; ++round) {
    for (std::size_t c = 0; c < kCandidates; ++c) {
      candidates.inverse[c] = reach.at(round, c) * per_weight;
      candidates.shift[c] = low * candidates.inverse[c];
    }
    best.consider(candidate_moments(weights, importance, candidates, true), candidates);
  }
  return best.fit_or(plain);
}

}  // namespace adze
