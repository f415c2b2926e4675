#include "linalg/rounding.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>

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

HWY_INLINE V ClampedCode(F d, V scaled, V lo, V hi) { return RoundHalfEven(d, hn::Min(hn::Max(scaled, lo), hi)); }

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
    const V code = ClampedCode(d, usable, hn::MaskedLoad(mask, d, lo + i), hn::MaskedLoad(mask, d, hi + i));
    hn::BlendedStore(hn::Add(hn::Mul(s, code), o), mask, d, values + i);
    hn::Store(code, d, code_buffer);
    const std::size_t n = std::min(hn::Lanes(d), count - i);
    for (std::size_t k = 0; k < n; ++k) codes[i + k] = static_cast<std::int16_t>(code_buffer[k]);
  });
}

/// Stores codes that lanes hold as floats.
HWY_INLINE void StoreCodes(F d, V code, std::size_t count, std::int16_t* out) {
  const hn::Rebind<std::int16_t, F> d16;
  const auto narrow = hn::DemoteTo(d16, hn::ConvertTo(hn::RebindToSigned<F>(), code));
  if (count >= hn::Lanes(d)) return hn::StoreU(narrow, d16, out);
  hn::BlendedStore(narrow, hn::FirstN(d16, count), d16, out);
}

/// How many midpoints are not above `scaled`, by bisection. midpoints: ascending, padded to kMostLevels - 1 with NaN,
/// which nothing is above.
HWY_INLINE V CountBelow(F d, V scaled, const float* midpoints) {
  const hn::RebindToSigned<F> di;
  auto count = hn::Zero(di);
  for (int step = static_cast<int>(kMostLevels) / 2; step > 0; step /= 2) {
    const auto next = hn::Add(count, hn::Set(di, step));
    const V midpoint = hn::GatherIndex(d, midpoints, hn::Sub(next, hn::Set(di, 1)));
    count = hn::IfThenElse(hn::RebindMask(di, hn::Ge(scaled, midpoint)), next, count);
  }
  return hn::ConvertTo(d, count);
}

/// Index of the level nearest to `scaled`, ties to the upper; `level` becomes the level itself.
HWY_INLINE V NearestLevel(F d, V scaled, const float* levels, const float* midpoints, std::size_t level_count,
                          V& level) {
  if (level_count > kFewLevels) {
    const V found = CountBelow(d, scaled, midpoints);
    level = hn::GatherIndex(d, levels, hn::ConvertTo(hn::RebindToSigned<F>(), found));
    return found;
  }
  V code = hn::Zero(d);
  const V one = hn::Set(d, 1.0f);
  level = hn::Set(d, levels[0]);
  for (std::size_t k = 0; k + 1 < level_count; ++k) {
    const auto above = hn::Ge(scaled, hn::Set(d, midpoints[k]));
    code = hn::Add(code, hn::IfThenElseZero(above, one));
    level = hn::IfThenElse(above, hn::Set(d, levels[k + 1]), level);
  }
  return code;
}

HWY_INLINE V Scaled(F d, V x, V step, V offset) {
  return hn::IfThenElse(hn::Eq(step, hn::Zero(d)), hn::Zero(d), hn::Div(hn::Sub(x, offset), step));
}

void RoundToCodebook(std::size_t count, const float* x, const float* step, const float* offset, const float* levels,
                     const float* midpoints, std::size_t level_count, std::int16_t* codes, float* values) {
  const F d;
  ForVectors(d, count, [&](std::size_t i, auto mask) {
    const V s = hn::MaskedLoad(mask, d, step + i);
    const V o = hn::MaskedLoad(mask, d, offset + i);
    V level = hn::Zero(d);
    const V code =
        NearestLevel(d, Scaled(d, hn::MaskedLoad(mask, d, x + i), s, o), levels, midpoints, level_count, level);
    hn::BlendedStore(hn::Add(hn::Mul(s, level), o), mask, d, values + i);
    StoreCodes(d, code, count - i, codes + i);
  });
}

void RoundToLevels(std::size_t count, const float* x, float step, float offset, const float* levels,
                   const float* midpoints, std::size_t level_count, std::int16_t* codes) {
  const F d;
  const V s = hn::Set(d, step);
  const V o = hn::Set(d, offset);
  ForVectors(d, count, [&](std::size_t i, auto mask) {
    V level = hn::Zero(d);
    const V scaled = Scaled(d, hn::MaskedLoad(mask, d, x + i), s, o);
    StoreCodes(d, NearestLevel(d, scaled, levels, midpoints, level_count, level), count - i, codes + i);
  });
}

void RoundToStep(std::size_t count, const float* x, float step, float offset, float lo, float hi, std::int16_t* codes) {
  const F d;
  const V s = hn::Set(d, step);
  const V o = hn::Set(d, offset);
  const V vlo = hn::Set(d, lo);
  const V vhi = hn::Set(d, hi);
  ForVectors(d, count, [&](std::size_t i, auto mask) {
    StoreCodes(d, ClampedCode(d, Scaled(d, hn::MaskedLoad(mask, d, x + i), s, o), vlo, vhi), count - i, codes + i);
  });
}

/// Of fewer than a vector's the rest is zero: before AVX-512, MaskedLoad of 16-bit lanes reads whole aligned vectors.
template <typename D16>
HWY_INLINE hn::Vec<D16> LoadCodes(D16 d16, const std::int16_t* codes, std::size_t count) {
  if (count >= hn::Lanes(d16)) return hn::LoadU(d16, codes);
  HWY_ALIGN std::int16_t some[hn::MaxLanes(D16())] = {};
  std::copy_n(codes, count, some);
  return hn::Load(d16, some);
}

void StepValues(std::size_t count, const std::int16_t* codes, float step, float offset, float* values) {
  const F d;
  const hn::Rebind<std::int16_t, F> d16;
  const V s = hn::Set(d, step);
  const V o = hn::Set(d, offset);
  ForVectors(d, count, [&](std::size_t i, auto mask) {
    const V code = hn::ConvertTo(d, hn::PromoteTo(hn::RebindToSigned<F>(), LoadCodes(d16, codes + i, count - i)));
    hn::BlendedStore(hn::Add(hn::Mul(s, code), o), mask, d, values + i);
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

}  // namespace HWY_NAMESPACE
}  // namespace adze
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace adze {

HWY_EXPORT(RoundToGrid);
HWY_EXPORT(RoundToCodebook);
HWY_EXPORT(RoundToLevels);
HWY_EXPORT(RoundToStep);
HWY_EXPORT(StepValues);

namespace {

/// Half way between neighbouring levels; of many levels, NaN after the last.
struct Midpoints {
  std::array<float, kMostLevels> values;

  explicit Midpoints(std::span<const float> levels) {
    assert(!levels.empty() && levels.size() <= kMostLevels);
    if (levels.size() > kFewLevels)
      std::fill(values.begin() + static_cast<std::ptrdiff_t>(levels.size() - 1), values.end(), NAN);
    float previous = -INFINITY;
    for (std::size_t k = 0; k + 1 < levels.size(); ++k) {
      const bool equal = levels[k] == levels[k + 1];  // then the lower one is never chosen
      values[k] = previous = equal ? previous : 0.5f * (levels[k] + levels[k + 1]);
    }
  }
};

}  // namespace
HWY_EXPORT(AddOuter);

void round_to_grid(std::span<const float> x, const AffineColumns& grid, std::span<std::int16_t> codes,
                   std::span<float> values) {
  assert(grid.step.size() == x.size() && grid.offset.size() == x.size() && grid.lo.size() == x.size() &&
         grid.hi.size() == x.size() && codes.size() == x.size() && values.size() == x.size());
  HWY_DYNAMIC_DISPATCH(RoundToGrid)
  (x.size(), x.data(), grid.step.data(), grid.offset.data(), grid.lo.data(), grid.hi.data(), codes.data(),
   values.data());
}

void round_to_codebook(std::span<const float> x, const AffineColumns& grid, std::span<const float> levels,
                       std::span<std::int16_t> codes, std::span<float> values) {
  assert(grid.step.size() == x.size() && grid.offset.size() == x.size() && codes.size() == x.size() &&
         values.size() == x.size());
  const Midpoints midpoints(levels);
  HWY_DYNAMIC_DISPATCH(RoundToCodebook)
  (x.size(), x.data(), grid.step.data(), grid.offset.data(), levels.data(), midpoints.values.data(), levels.size(),
   codes.data(), values.data());
}

void round_to_step(std::span<const float> x, float step, float offset, float lo, float hi,
                   std::span<std::int16_t> codes) {
  assert(codes.size() == x.size());
  HWY_DYNAMIC_DISPATCH(RoundToStep)(x.size(), x.data(), step, offset, lo, hi, codes.data());
}

void round_to_levels(std::span<const float> x, float step, float offset, std::span<const float> levels,
                     std::span<std::int16_t> codes) {
  assert(codes.size() == x.size());
  const Midpoints midpoints(levels);
  HWY_DYNAMIC_DISPATCH(RoundToLevels)
  (x.size(), x.data(), step, offset, levels.data(), midpoints.values.data(), levels.size(), codes.data());
}

void step_values(std::span<const std::int16_t> codes, float step, float offset, std::span<float> values) {
  assert(values.size() == codes.size());
  HWY_DYNAMIC_DISPATCH(StepValues)(codes.size(), codes.data(), step, offset, values.data());
}

void add_outer(std::span<const float> a, std::span<const float> x, ViewF y) {
  assert(y.rows() == a.size() && y.cols() == x.size());
  HWY_DYNAMIC_DISPATCH(AddOuter)(a.size(), x.size(), a.data(), x.data(), y.data(), y.stride());
}

}  // namespace adze
#endif
