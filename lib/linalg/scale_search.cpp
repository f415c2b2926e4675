#include "linalg/scale_search.h"

#include <algorithm>
#include <cassert>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "linalg/scale_search.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace adze {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F = hn::CappedTag<float, kCandidates>;
using V = hn::Vec<F>;

constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: sums with it have no fraction bits, rounded half to even

template <bool kWithShift>
HWY_INLINE void AffineMoments(std::size_t count, const float* x, const float* weight, const Candidates& candidates,
                              CandidateMoments& out) {
  const F d;
  for (std::size_t c = 0; c < kCandidates; c += hn::Lanes(d)) {
    const V inverse = hn::Load(d, candidates.inverse.data() + c);
    const V shift = hn::Load(d, candidates.shift.data() + c);
    const V magic = hn::Set(d, kMagic);
    const V lo = hn::Add(hn::Load(d, candidates.lo.data() + c), magic);
    const V hi = hn::Add(hn::Load(d, candidates.hi.data() + c), magic);
    V sum_l = hn::Zero(d);
    V sum_ll = hn::Zero(d);
    V sum_e = hn::Zero(d);
    V sum_el = hn::Zero(d);
    V sum_ee = hn::Zero(d);
    for (std::size_t i = 0; i < count; ++i) {
      const V vx = hn::Set(d, x[i]);
      const V w = hn::Set(d, weight[i]);
      const V scaled = kWithShift ? hn::MulSub(vx, inverse, shift) : hn::Mul(vx, inverse);
      const V shifted = kWithShift ? hn::Add(scaled, magic) : hn::MulAdd(vx, inverse, magic);
      const V l = hn::Sub(hn::Min(hn::Max(shifted, lo), hi), magic);
      const V e = hn::Sub(scaled, l);
      const V wl = hn::Mul(w, l);
      const V we = hn::Mul(w, e);
      if (kWithShift) {
        sum_l = hn::Add(sum_l, wl);
        sum_e = hn::Add(sum_e, we);
      }
      sum_ll = hn::MulAdd(wl, l, sum_ll);
      sum_el = hn::MulAdd(we, l, sum_el);
      sum_ee = hn::MulAdd(we, e, sum_ee);
    }
    hn::Store(sum_l, d, out.l.data() + c);
    hn::Store(sum_ll, d, out.ll.data() + c);
    hn::Store(sum_e, d, out.e.data() + c);
    hn::Store(sum_el, d, out.el.data() + c);
    hn::Store(sum_ee, d, out.ee.data() + c);
  }
}

void Moments(std::size_t count, const float* x, const float* weight, const Candidates& candidates, bool with_shift,
             CandidateMoments& out) {
  if (with_shift) {
    AffineMoments<true>(count, x, weight, candidates, out);
  } else {
    AffineMoments<false>(count, x, weight, candidates, out);
  }
}

void LevelMoments(std::size_t count, const float* x, const float* weight, const CandidateArray& inverses,
                  const float* levels, const float* midpoints, std::size_t level_count, CandidateMoments& out) {
  const F d;
  for (std::size_t c = 0; c < kCandidates; c += hn::Lanes(d)) {
    const V inverse = hn::Load(d, inverses.data() + c);
    V sum_ll = hn::Zero(d);
    V sum_el = hn::Zero(d);
    V sum_ee = hn::Zero(d);
    for (std::size_t i = 0; i < count; ++i) {
      const V w = hn::Set(d, weight[i]);
      const V scaled = hn::Mul(hn::Set(d, x[i]), inverse);
      V l = hn::Set(d, levels[0]);
      for (std::size_t k = 0; k + 1 < level_count; ++k)
        l = hn::IfThenElse(hn::Ge(scaled, hn::Set(d, midpoints[k])), hn::Set(d, levels[k + 1]), l);
      const V e = hn::Sub(scaled, l);
      const V we = hn::Mul(w, e);
      sum_ll = hn::MulAdd(hn::Mul(w, l), l, sum_ll);
      sum_el = hn::MulAdd(we, l, sum_el);
      sum_ee = hn::MulAdd(we, e, sum_ee);
    }
    hn::Store(sum_ll, d, out.ll.data() + c);
    hn::Store(sum_el, d, out.el.data() + c);
    hn::Store(sum_ee, d, out.ee.data() + c);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace adze
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace adze {

HWY_EXPORT(Moments);
HWY_EXPORT(LevelMoments);

namespace {

constexpr std::size_t kBlock = 4096;  // values summed in float; sums over more are taken in double, block by block

void add_to(std::array<double, kCandidates>& sums, const CandidateArray& more) {
  for (std::size_t c = 0; c < kCandidates; ++c) sums[c] += more[c];
}

/// Calls part(first, count, moments) for blocks of the values and adds the moments up.
template <class Part>
CandidateMoments in_blocks(std::size_t size, Part&& part) {
  CandidateMoments moments{};
  if (size <= kBlock) {
    part(0, size, moments);
    return moments;
  }
  std::array<std::array<double, kCandidates>, 5> sums{};
  for (std::size_t first = 0; first < size; first += kBlock) {
    part(first, std::min(kBlock, size - first), moments);
    std::size_t s = 0;
    for (const CandidateArray* some : {&moments.l, &moments.ll, &moments.e, &moments.el, &moments.ee})
      add_to(sums[s++], *some);
  }
  std::size_t s = 0;
  for (CandidateArray* some : {&moments.l, &moments.ll, &moments.e, &moments.el, &moments.ee})
    std::ranges::transform(sums[s++], some->begin(), [](double sum) { return static_cast<float>(sum); });
  return moments;
}

}  // namespace

CandidateMoments candidate_moments(std::span<const float> x, std::span<const float> weight,
                                   const Candidates& candidates, bool with_shift) {
  assert(x.size() == weight.size());
  return in_blocks(x.size(), [&](std::size_t first, std::size_t count, CandidateMoments& out) {
    HWY_DYNAMIC_DISPATCH(Moments)(count, x.data() + first, weight.data() + first, candidates, with_shift, out);
  });
}

CandidateMoments level_moments(std::span<const float> x, std::span<const float> weight, const CandidateArray& inverse,
                               std::span<const float> levels) {
  assert(x.size() == weight.size() && !levels.empty() && levels.size() <= kCandidates);
  std::array<float, kCandidates> midpoints{};
  for (std::size_t k = 0; k + 1 < levels.size(); ++k) midpoints[k] = 0.5f * (levels[k] + levels[k + 1]);
  return in_blocks(x.size(), [&](std::size_t first, std::size_t count, CandidateMoments& out) {
    HWY_DYNAMIC_DISPATCH(LevelMoments)
    (count, x.data() + first, weight.data() + first, inverse, levels.data(), midpoints.data(), levels.size(), out);
  });
}

}  // namespace adze
#endif
