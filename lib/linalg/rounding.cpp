#include "linalg/rounding.h"

#include <algorithm>
#include <cassert>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "linalg/rounding.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace adze {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F = hn::ScalableTag<float>;
using V = hn::Vec<F>;

HWY_INLINE V RoundHalfEven(F d, V x) {
  const V magic = hn::Set(d, 12582912.0f);
  return hn::Sub(hn::Add(x, magic), magic);
}

HWY_INLINE V ClampedCode(F d, V scaled, V lo, V hi) {
  return RoundHalfEven(d, hn::Min(hn::Max(scaled, lo), hi));
}

/// Works on whole vectors; the last, partial one is padded by `Masked` loads of zero.
template <class Body>
HWY_INLINE void ForVectors(F d, std::size_t count, Body&& body) {
  const std::size_t lanes = hn::Lanes(d);
  const auto all = hn::FirstN(d, lanes);
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes) body(i, all);
  if (i < count) body(i, hn::FirstN(d, count - i));
}

void RoundToGrid(std::size_t count, const float* x, const float* step, const float* offset, const float* lo,
                 const float* hi, std::int16_t* codes, float* values) {
  const F d;
  const V zero = hn::Zero(d);
  HWY_ALIGN float code_buffer[hn::MaxLanes(F())];
  ForVectors(d, count, [&](std::size_t i, auto mask) {
    const V s = hn::MaskedLoad(mask, d, step + i);
    const V o = hn::MaskedLoad(mask, d, offset + i);
    const V scaled = hn::Div(hn::Sub(hn::MaskedLoad(mask, d, x + i), o), s);
    const V usable = hn::IfThenElse(hn::Eq(s, zero), zero, scaled);
    const V code =
        ClampedCode(d, usable, hn::MaskedLoad(mask, d, lo + i), hn::MaskedLoad(mask, d, hi + i));
    hn::BlendedStore(hn::Add(hn::Mul(s, code), o), mask, d, values + i);
    hn::Store(code, d, code_buffer);
    const std::size_t n = std::min(hn::Lanes(d), count - i);
    for (std::size_t k = 0; k < n; ++k) codes[i + k] = static_cast<std::int16_t>(code_buffer[k]);
  });
}

void AddOuter(std::size_t rows, std::size_t count, const float* a, const float* x, float* y, std::size_t stride) {
  const F d;
  for (std::size_t r = 0; r < rows; ++r, y += stride) {
    const V va = hn::Set(d, a[r]);
    ForVectors(d, count, [&](std::size_t i, auto mask) {
      hn::BlendedStore(hn::MulAdd(va, hn::MaskedLoad(mask, d, x + i), hn::MaskedLoad(mask, d, y + i)), mask, d, y + i);
    });
  }
}

CodeMoments Moments(std::size_t count, const float* x, const float* weight, float inverse_step, float shift, float lo,
                    float hi) {
  const F d;
  const V inverse = hn::Set(d, inverse_step);
  const V vshift = hn::Set(d, shift);
  const V vlo = hn::Set(d, lo);
  const V vhi = hn::Set(d, hi);
  V sum_l = hn::Zero(d);
  V sum_ll = hn::Zero(d);
  V sum_xl = hn::Zero(d);
  ForVectors(d, count, [&](std::size_t i, auto mask) {
    const V vx = hn::MaskedLoad(mask, d, x + i);
    const V w = hn::MaskedLoad(mask, d, weight + i);  // zero beyond the end: no contribution
    const V l = ClampedCode(d, hn::Sub(hn::Mul(vx, inverse), vshift), vlo, vhi);
    const V wl = hn::Mul(w, l);
    sum_l = hn::Add(sum_l, wl);
    sum_ll = hn::MulAdd(wl, l, sum_ll);
    sum_xl = hn::MulAdd(wl, vx, sum_xl);
  });
  return {hn::GetLane(hn::SumOfLanes(d, sum_l)), hn::GetLane(hn::SumOfLanes(d, sum_ll)),
          hn::GetLane(hn::SumOfLanes(d, sum_xl))};
}

float RoundingError(std::size_t count, const float* x, const float* weight, float step, float offset, float lo,
                    float hi) {
  const F d;
  const V vstep = hn::Set(d, step);
  const V voffset = hn::Set(d, offset);
  const V vlo = hn::Set(d, lo);
  const V vhi = hn::Set(d, hi);
  V sum = hn::Zero(d);
  ForVectors(d, count, [&](std::size_t i, auto mask) {
    const V vx = hn::MaskedLoad(mask, d, x + i);
    const V code = ClampedCode(d, hn::Div(hn::Sub(vx, voffset), vstep), vlo, vhi);
    const V error = hn::Sub(vx, hn::Add(hn::Mul(vstep, code), voffset));
    sum = hn::MulAdd(hn::Mul(error, error), hn::MaskedLoad(mask, d, weight + i), sum);
  });
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

}  // namespace HWY_NAMESPACE
}  // namespace adze
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace adze {

HWY_EXPORT(RoundToGrid);
HWY_EXPORT(AddOuter);
HWY_EXPORT(Moments);
HWY_EXPORT(RoundingError);

void round_to_grid(std::span<const float> x, const AffineColumns& grid, std::span<std::int16_t> codes,
                   std::span<float> values) {
  assert(grid.step.size() == x.size() && grid.offset.size() == x.size() && grid.lo.size() == x.size() &&
         grid.hi.size() == x.size() && codes.size() == x.size() && values.size() == x.size());
  HWY_DYNAMIC_DISPATCH(RoundToGrid)
  (x.size(), x.data(), grid.step.data(), grid.offset.data(), grid.lo.data(), grid.hi.data(), codes.data(),
   values.data());
}

void add_outer(std::span<const float> a, std::span<const float> x, ViewF y) {
  assert(y.rows() == a.size() && y.cols() == x.size());
  HWY_DYNAMIC_DISPATCH(AddOuter)(a.size(), x.size(), a.data(), x.data(), y.data(), y.stride());
}

CodeMoments code_moments(std::span<const float> x, std::span<const float> weight, float inverse_step, float shift,
                         float lo, float hi) {
  assert(x.size() == weight.size());
  return HWY_DYNAMIC_DISPATCH(Moments)(x.size(), x.data(), weight.data(), inverse_step, shift, lo, hi);
}

float rounding_error(std::span<const float> x, std::span<const float> weight, float step, float offset, float lo,
                     float hi) {
  assert(x.size() == weight.size());
  return HWY_DYNAMIC_DISPATCH(RoundingError)(x.size(), x.data(), weight.data(), step, offset, lo, hi);
}

}  // namespace adze
#endif
