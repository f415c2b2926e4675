#include "linalg/affine_search.h"

#include <algorithm>
#include <cassert>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "linalg/affine_search.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace adze {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr std::size_t kTried = 16;
using F = hn::CappedTag<float, kTried>;
using V = hn::Vec<F>;

struct alignas(64) Lanes16 {
  float at[kTried];
};

/// Index of the least entry, the first of equals; 0 when there is none but NaN.
HWY_INLINE std::size_t ArgMin(F d, const Lanes16& values) {
  V least = hn::Load(d, values.at);
  for (std::size_t c = hn::Lanes(d); c < kTried; c += hn::Lanes(d)) least = hn::Min(least, hn::Load(d, values.at + c));
  least = hn::MinOfLanes(d, least);
  for (std::size_t c = 0; c < kTried; c += hn::Lanes(d)) {
    const auto found = hn::FindFirstTrue(d, hn::Eq(hn::Load(d, values.at + c), least));
    if (found >= 0) return c + static_cast<std::size_t>(found);
  }
  return 0;
}

HWY_INLINE float SumOf(F d, V v) { return hn::GetLane(hn::SumOfLanes(d, v)); }

struct Extent {
  float lo;
  float hi;
};

/// Loads for groups of whole vectors, without the masks that the last vector of other groups needs.
struct WholeVectors {
  HWY_INLINE static V Load(F d, const float* p, std::size_t) { return hn::LoadU(d, p); }
  HWY_INLINE static V Valid(F, V value, V, std::size_t) { return value; }
};
struct PartVectors {
  /// `left` values from p on, then zeros.
  HWY_INLINE static V Load(F d, const float* p, std::size_t left) { return hn::MaskedLoad(hn::FirstN(d, left), d, p); }
  /// value in the lanes that Load has filled, otherwise in the others.
  HWY_INLINE static V Valid(F d, V value, V otherwise, std::size_t left) {
    return hn::IfThenElse(hn::FirstN(d, left), value, otherwise);
  }
};

/// Sums of the group into fit, and its extremes. Values without weight do not count, unless none has one.
template <class Vectors>
HWY_INLINE Extent Measure(F d, std::size_t count, const float* x, const float* weight, bool any_offset, GroupFit& fit) {
  const V zero = hn::Zero(d);
  const V infinity = hn::Inf(d);
  V w_sum = zero, x_sum = zero, xx_sum = zero;
  V lo = any_offset ? infinity : zero;
  V hi = any_offset ? hn::Neg(infinity) : zero;
  V all_lo = lo, all_hi = hi;
  for (std::size_t i = 0; i < count; i += hn::Lanes(d)) {
    const V vx = Vectors::Load(d, x + i, count - i);
    const V w = Vectors::Load(d, weight + i, count - i);
    const auto counts = hn::Gt(w, zero);
    lo = hn::IfThenElse(counts, hn::Min(lo, vx), lo);
    hi = hn::IfThenElse(counts, hn::Max(hi, vx), hi);
    all_lo = Vectors::Valid(d, hn::Min(all_lo, vx), all_lo, count - i);
    all_hi = Vectors::Valid(d, hn::Max(all_hi, vx), all_hi, count - i);
    const V wx = hn::Mul(w, vx);
    w_sum = hn::Add(w_sum, w);
    x_sum = hn::Add(x_sum, wx);
    xx_sum = hn::MulAdd(wx, vx, xx_sum);
  }
  fit.w = SumOf(d, w_sum);
  fit.x = SumOf(d, x_sum);
  fit.xx = SumOf(d, xx_sum);
  const bool weighted = fit.w > 0;
  return {hn::GetLane(hn::MinOfLanes(d, weighted ? lo : all_lo)),
          hn::GetLane(hn::MaxOfLanes(d, weighted ? hi : all_hi))};
}

/// Solves for step and offset above `low` in every lane: from sums over codes l and over y = x - low.
struct Solved {
  V step;
  V offset;  ///< of y
  V error;
};
HWY_INLINE Solved Solve(F d, V w, V y, V yy, V l, V ll, V yl, V low, bool any_offset) {
  const V zero = hn::Zero(d);
  const V determinant = hn::Sub(hn::Mul(w, ll), hn::Mul(l, l));
  const V inverse = hn::Div(hn::Set(d, 1.0f), determinant);
  V step = hn::Mul(hn::Sub(hn::Mul(w, yl), hn::Mul(y, l)), inverse);
  V offset = hn::Mul(hn::Sub(hn::Mul(ll, y), hn::Mul(l, yl)), inverse);
  if (!any_offset) {
    const auto above = hn::Gt(hn::Add(low, offset), zero);
    const V step_alone = hn::Div(hn::MulAdd(low, l, yl), ll);
    step = hn::IfThenElse(above, step_alone, step);
    offset = hn::IfThenElse(above, hn::Neg(low), offset);
  }
  // sum w (y - s l - o)^2 = yy + s (s ll - 2 yl) + o (o w - 2 y + 2 s l)
  const V two = hn::Set(d, 2.0f);
  const V with_step = hn::MulAdd(step, hn::Sub(hn::Mul(step, ll), hn::Mul(two, yl)), yy);
  const V inner = hn::MulAdd(offset, w, hn::Mul(two, hn::Sub(hn::Mul(step, l), y)));
  const V error = hn::MulAdd(offset, inner, with_step);
  const auto solvable = hn::Gt(determinant, hn::Mul(hn::Set(d, 1e-6f), hn::Mul(w, ll)));
  const auto usable = hn::And(solvable, hn::Gt(step, zero));
  return {step, offset, hn::IfThenElse(usable, error, hn::Inf(d))};
}

/// Vectors that hold the candidates. All of them go over the values together: alone, each would wait for its own sums.
constexpr std::size_t kVectors = kTried / hn::MaxLanes(F());
#define ADZE_EACH_VECTOR(v) _Pragma("GCC unroll 4") for (std::size_t v = 0; v < kVectors; ++v)

/// What a vector of candidates' codes add up to.
struct CodeSums {
  V l;
  V ll;
  V xl;
};

/// Adds value x of weight w, whose codes are `code`, to the sums.
HWY_INLINE void AddCode(V x, V w, V code, CodeSums& sums) {
  const V wl = hn::Mul(w, code);
  sums.l = hn::Add(sums.l, wl);
  sums.ll = hn::MulAdd(wl, code, sums.ll);
  sums.xl = hn::MulAdd(wl, x, sums.xl);
}

template <class Vectors>
HWY_INLINE void SearchGroup(F d, std::size_t count, const float* x, const float* weight, const AffineSearch& search,
                            GroupFit& fit) {
  const Extent extent = Measure<Vectors>(d, count, x, weight, search.any_offset, fit);
  const float range = extent.hi - extent.lo;
  constexpr float kNoRange = 1e-30f;  // inverses of less overflow
  fit.step = range < kNoRange ? 0.0f : range / search.largest_code;
  fit.offset = extent.lo;
  fit.l = fit.ll = fit.xl = 0;
  if (range < kNoRange || !(fit.w > 0)) return;
  HWY_ALIGN float above[kMostSearchCols];  // y = x - lowest; where less, x has no weight
  const V zero = hn::Zero(d);
  V y_lanes = zero, yy_lanes = zero;
  for (std::size_t i = 0; i < count; i += hn::Lanes(d)) {
    const V vx = Vectors::Load(d, x + i, count - i);
    const V y = hn::Max(hn::Sub(vx, hn::Set(d, extent.lo)), zero);
    const V wy = hn::Mul(Vectors::Load(d, weight + i, count - i), y);
    hn::Store(y, d, above + i);
    y_lanes = hn::Add(y_lanes, wy);
    yy_lanes = hn::MulAdd(wy, y, yy_lanes);
  }
  const float y_sum = SumOf(d, y_lanes);
  const float yy_sum = SumOf(d, yy_lanes);
  const V magic = hn::Set(d, 12582912.0f);  // 1.5 * 2^23: sums with it have no fraction bits, rounded half to even
  const V most = hn::Add(magic, hn::Set(d, search.largest_code));
  V inverse[kVectors];
  CodeSums sums[kVectors];
  ADZE_EACH_VECTOR(v) {
    const V index = hn::Iota(d, static_cast<float>(v * hn::Lanes(d)));
    const V spread = hn::MulAdd(index, hn::Set(d, search.apart), hn::Set(d, search.first));
    const V reach = hn::IfThenElse(hn::Eq(index, zero), hn::Set(d, search.largest_code), spread);  // 0: unclipped
    inverse[v] = hn::Mul(reach, hn::Set(d, 1.0f / range));
    sums[v] = {zero, zero, zero};
  }
  for (std::size_t i = 0; i < count; ++i) {
    const V y = hn::Set(d, above[i]);
    const V w = hn::Set(d, weight[i]);
    ADZE_EACH_VECTOR(v) {
      const V shifted = hn::Min(hn::MulAdd(y, inverse[v], magic), most);  // y >= 0, so no code is below zero
      AddCode(y, w, hn::Sub(shifted, magic), sums[v]);
    }
  }
  Lanes16 errors, steps, offsets, l, ll, yl;
  ADZE_EACH_VECTOR(v) {
    const std::size_t c = v * hn::Lanes(d);
    const Solved solved = Solve(d, hn::Set(d, fit.w), hn::Set(d, y_sum), hn::Set(d, yy_sum), sums[v].l, sums[v].ll,
                                sums[v].xl, hn::Set(d, extent.lo), search.any_offset);
    // Sums cancel to about 1e-6 of themselves: candidates that are equal but for that leave the plain one in place.
    const auto plain = hn::Eq(hn::Iota(d, static_cast<float>(c)), zero);
    const V handicap = hn::IfThenElse(plain, zero, hn::Set(d, 2e-6f * yy_sum));
    hn::Store(hn::Add(solved.error, handicap), d, errors.at + c);
    hn::Store(solved.step, d, steps.at + c);
    hn::Store(solved.offset, d, offsets.at + c);
    hn::Store(sums[v].l, d, l.at + c);
    hn::Store(sums[v].ll, d, ll.at + c);
    hn::Store(sums[v].xl, d, yl.at + c);
  }
  const std::size_t best = ArgMin(d, errors);
  if (!(errors.at[best] < 3e38f)) return;
  fit.step = steps.at[best];
  fit.offset = extent.lo + offsets.at[best];
  fit.l = l.at[best];
  fit.ll = ll.at[best];
  fit.xl = yl.at[best] + extent.lo * l.at[best];
}

void SearchAffine(std::size_t count, const float* x, const float* weight, const AffineSearch& search,
                  std::size_t groups, GroupFit* fits) {
  const F d;
  const auto search_group = count % hn::Lanes(d) == 0 ? &SearchGroup<WholeVectors> : &SearchGroup<PartVectors>;
  for (std::size_t k = 0; k < groups; ++k) search_group(d, count, x + k * count, weight + k * count, search, fits[k]);
}

// Moves of (scale, min), the present first.
alignas(64) constexpr float kScaleMoves[kTried] = {0, -1, 1, 0, -1, 1, 0, -1, 1, 0, -1, 1, 0, -1, 1, 0};
alignas(64) constexpr float kMinMoves[kTried] = {0, 0, 0, -1, -1, -1, 1, 1, 1, -2, -2, -2, 2, 2, 2, 3};

void SearchIntegers(std::size_t count, const float* x, const float* weight, float largest_code, float largest_integer,
                    std::size_t groups, const GroupFit* fits, SharedScales& scales, SharedFit& out) {
  const F d;
  const V zero = hn::Zero(d);
  const V magic = hn::Set(d, 12582912.0f);
  const V top = hn::Set(d, largest_code);
  const V largest = hn::Set(d, largest_integer);
  const V two = hn::Set(d, 2.0f);
  Lanes16 errors, scale, min, l, ll, xl;
  for (std::size_t k = 0; k < groups; ++k, x += count, weight += count) {
    V inverse[kVectors], shift[kVectors], step[kVectors], offset[kVectors];
    CodeSums sums[kVectors];
    ADZE_EACH_VECTOR(v) {
      const std::size_t c = v * hn::Lanes(d);
      const V s = hn::Min(hn::Max(hn::Add(hn::Set(d, scales.scale[k]), hn::Load(d, kScaleMoves + c)), zero), largest);
      const V m = hn::Min(hn::Max(hn::Add(hn::Set(d, scales.min[k]), hn::Load(d, kMinMoves + c)), zero), largest);
      step[v] = hn::Mul(hn::Set(d, scales.d), s);
      offset[v] = hn::Neg(hn::Mul(hn::Set(d, scales.dmin), m));
      inverse[v] = hn::IfThenElseZero(hn::Gt(step[v], zero), hn::Div(hn::Set(d, 1.0f), step[v]));
      shift[v] = hn::Mul(offset[v], inverse[v]);
      sums[v] = {zero, zero, zero};
      hn::Store(s, d, scale.at + c);
      hn::Store(m, d, min.at + c);
    }
    for (std::size_t i = 0; i < count; ++i) {
      const V vx = hn::Set(d, x[i]);
      const V w = hn::Set(d, weight[i]);
      ADZE_EACH_VECTOR(v) {
        const V scaled = hn::Min(hn::Max(hn::MulSub(vx, inverse[v], shift[v]), zero), top);
        AddCode(vx, w, hn::Sub(hn::Add(scaled, magic), magic), sums[v]);
      }
    }
    ADZE_EACH_VECTOR(v) {
      const std::size_t c = v * hn::Lanes(d);
      const auto& [l_sum, ll_sum, xl_sum] = sums[v];
      // sum w (x - s l - o)^2, as in Solve; a step of zero leaves the offset's part.
      const V with_step =
          hn::MulAdd(step[v], hn::Sub(hn::Mul(step[v], ll_sum), hn::Mul(two, xl_sum)), hn::Set(d, fits[k].xx));
      const V inner = hn::MulAdd(offset[v], hn::Set(d, fits[k].w),
                                 hn::Mul(two, hn::Sub(hn::Mul(step[v], l_sum), hn::Set(d, fits[k].x))));
      hn::Store(hn::MulAdd(offset[v], inner, with_step), d, errors.at + c);
      hn::Store(l_sum, d, l.at + c);
      hn::Store(ll_sum, d, ll.at + c);
      hn::Store(xl_sum, d, xl.at + c);
    }
    const std::size_t best = ArgMin(d, errors);
    const double s = scales.scale[k] = scale.at[best];
    const double m = scales.min[k] = min.at[best];
    if (s == 0) continue;  // its codes have no effect
    out.aa += s * s * ll.at[best];
    out.ab -= s * m * l.at[best];
    out.bb += m * m * fits[k].w;
    out.ax += s * xl.at[best];
    out.bx -= m * fits[k].x;
  }
}

/// One number of GroupFit for every group, groups in lanes.
HWY_INLINE void Spread(std::size_t groups, const GroupFit* fits, float GroupFit::*member, Lanes16& out) {
  for (std::size_t k = 0; k < groups; ++k) out.at[k] = fits[k].*member;
  for (std::size_t k = groups; k < kTried; ++k) out.at[k] = 0;
}

void SettleIntegers(float largest_integer, std::size_t groups, const GroupFit* fits, SharedScales& scales,
                    SharedFit& out) {
  const F d;
  Lanes16 w, x, l, ll, xl;
  Spread(groups, fits, &GroupFit::w, w);
  Spread(groups, fits, &GroupFit::x, x);
  Spread(groups, fits, &GroupFit::l, l);
  Spread(groups, fits, &GroupFit::ll, ll);
  Spread(groups, fits, &GroupFit::xl, xl);
  const V zero = hn::Zero(d);
  const V two = hn::Set(d, 2.0f);
  const V largest = hn::Set(d, largest_integer);
  V aa = zero, ab = zero, bb = zero, ax = zero, bx = zero;
  for (std::size_t k = 0; k < kTried; k += hn::Lanes(d)) {
    const V vw = hn::Load(d, w.at + k), vx = hn::Load(d, x.at + k), vl = hn::Load(d, l.at + k);
    const V vll = hn::Load(d, ll.at + k), vxl = hn::Load(d, xl.at + k);
    const V scale = hn::LoadU(d, scales.scale.data() + k), min = hn::LoadU(d, scales.min.data() + k);
    V least = hn::Inf(d), best_scale = scale, best_min = min;
    for (std::size_t c = 0; c < kTried; ++c) {
      const V s = hn::Min(hn::Max(hn::Add(scale, hn::Set(d, kScaleMoves[c])), zero), largest);
      const V m = hn::Min(hn::Max(hn::Add(min, hn::Set(d, kMinMoves[c])), zero), largest);
      const V step = hn::Mul(hn::Set(d, scales.d), s);
      const V offset = hn::Mul(hn::Set(d, -scales.dmin), m);
      const V with_step = hn::Mul(step, hn::Sub(hn::Mul(step, vll), hn::Mul(two, vxl)));
      const V inner = hn::MulAdd(offset, vw, hn::Mul(two, hn::Sub(hn::Mul(step, vl), vx)));
      const V error = hn::MulAdd(offset, inner, with_step);
      const auto better = hn::Lt(error, least);
      least = hn::IfThenElse(better, error, least);
      best_scale = hn::IfThenElse(better, s, best_scale);
      best_min = hn::IfThenElse(better, m, best_min);
    }
    hn::StoreU(best_scale, d, scales.scale.data() + k);
    hn::StoreU(best_min, d, scales.min.data() + k);
    const auto used = hn::Gt(best_scale, zero);
    const V m = hn::IfThenElseZero(used, best_min);
    aa = hn::MulAdd(hn::Mul(best_scale, best_scale), vll, aa);
    ab = hn::NegMulAdd(hn::Mul(best_scale, m), vl, ab);
    bb = hn::MulAdd(hn::Mul(m, m), vw, bb);
    ax = hn::MulAdd(best_scale, vxl, ax);
    bx = hn::NegMulAdd(m, vx, bx);
  }
  out = {SumOf(d, aa), SumOf(d, ab), SumOf(d, bb), SumOf(d, ax), SumOf(d, bx)};
}

}  // namespace HWY_NAMESPACE
}  // namespace adze
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace adze {

HWY_EXPORT(SearchAffine);
HWY_EXPORT(SearchIntegers);
HWY_EXPORT(SettleIntegers);

void search_affine(std::span<const float> x, std::span<const float> weight, const AffineSearch& search,
                   std::span<GroupFit> fits) {
  const std::size_t cols = x.size() / fits.size();
  assert(x.size() == weight.size() && cols * fits.size() == x.size() && cols <= kMostSearchCols);
  HWY_DYNAMIC_DISPATCH(SearchAffine)(cols, x.data(), weight.data(), search, fits.size(), fits.data());
}

SharedFit search_integers(std::span<const float> x, std::span<const float> weight, float largest_code,
                          float largest_integer, std::span<const GroupFit> fits, SharedScales& scales) {
  const std::size_t cols = x.size() / fits.size();
  assert(x.size() == weight.size() && cols * fits.size() == x.size() && fits.size() <= SharedScales::kMostGroups);
  SharedFit fit;
  HWY_DYNAMIC_DISPATCH(SearchIntegers)
  (cols, x.data(), weight.data(), largest_code, largest_integer, fits.size(), fits.data(), scales, fit);
  return fit;
}

SharedFit settle_integers(float largest_integer, std::span<const GroupFit> fits, SharedScales& scales) {
  assert(fits.size() <= SharedScales::kMostGroups);
  SharedFit fit;
  HWY_DYNAMIC_DISPATCH(SettleIntegers)(largest_integer, fits.size(), fits.data(), scales, fit);
  return fit;
}

}  // namespace adze
#endif
