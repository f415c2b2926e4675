#include "linalg/vector_math.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstddef>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "linalg/vector_math.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace adze {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::ScalableTag<float>;

constexpr float kMostExponent = 88.0f;    // exp(88.7) is the largest float
constexpr float kLeastExponent = -87.3f;  // exp(-87.34) is the smallest normal float

/// exp(x) = 2^n exp(r), n = round(x / ln 2), r = x - n ln 2 in two parts (Cody and Waite), |r| <= 0.3466; exp(r) by its
/// Taylor polynomial of degree 7, whose remainder 0.3466^8 / 8! = 5e-9 is far below a float's rounding.
template <class D>
HWY_INLINE hn::Vec<D> Exp(D d, hn::Vec<D> x) {
  const hn::RebindToSigned<D> di;
  const auto keep = hn::Ge(x, hn::Set(d, kLeastExponent));
  x = hn::Min(hn::Max(x, hn::Set(d, kLeastExponent)), hn::Set(d, kMostExponent));
  const auto n = hn::NearestInt(hn::Mul(x, hn::Set(d, 1.44269504f)));
  const auto nf = hn::ConvertTo(d, n);
  auto r = hn::NegMulAdd(nf, hn::Set(d, 0.693359375f), x);
  r = hn::NegMulAdd(nf, hn::Set(d, -2.12194440e-4f), r);
  auto p = hn::Set(d, 1.0f / 5040);
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f / 720));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f / 120));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f / 24));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f / 6));
  p = hn::MulAdd(p, r, hn::Set(d, 0.5f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f));
  const auto scale = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(n, hn::Set(di, 127))));
  return hn::IfThenElseZero(keep, hn::Mul(p, scale));
}

float Largest(const float* values, std::size_t count) {
  const Floats d;
  const std::size_t lanes = hn::Lanes(d);
  auto most = hn::Set(d, values[0]);
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes) most = hn::Max(most, hn::LoadU(d, values + i));
  float result = hn::GetLane(hn::MaxOfLanes(d, most));
  for (; i < count; ++i) result = values[i] > result ? values[i] : result;
  return result;
}

float LargestMagnitude(const float* values, std::size_t count) {
  const Floats d;
  const std::size_t lanes = hn::Lanes(d);
  auto most = hn::Zero(d);
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes) most = hn::Max(most, hn::Abs(hn::LoadU(d, values + i)));
  float result = hn::GetLane(hn::MaxOfLanes(d, most));
  for (; i < count; ++i) result = std::max(result, std::fabs(values[i]));
  return result;
}

template <class D>
void ExpOne(D d, const float* in, float shift, float scale, float* out) {
  const auto argument = hn::Mul(hn::Sub(hn::LoadU(d, in), hn::Set(d, shift)), hn::Set(d, scale));
  hn::StoreU(Exp(d, argument), d, out);
}

double ExpShifted(const float* in, float shift, float scale, float* out, std::size_t count) {
  const Floats d;
  const hn::ScalableTag<double> dd;
  const hn::Rebind<float, decltype(dd)> d_half;
  const std::size_t lanes = hn::Lanes(d);
  auto sums = hn::Zero(dd);
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    ExpOne(d, in + i, shift, scale, out + i);
    for (std::size_t j = 0; j < lanes; j += hn::Lanes(dd))
      sums = hn::Add(sums, hn::PromoteTo(dd, hn::LoadU(d_half, out + i + j)));
  }
  double sum = hn::GetLane(hn::SumOfLanes(dd, sums));
  const hn::CappedTag<float, 1> one;
  for (; i < count; ++i) {
    ExpOne(one, in + i, shift, scale, out + i);
    sum += out[i];
  }
  return sum;
}

template <class D>
double SumOf(D d, hn::Vec<D> values) {
  return hn::GetLane(hn::SumOfLanes(d, values));
}

SoftmaxSums CompareSoftmaxes(const SoftmaxView& p, const SoftmaxView& q) {
  const hn::ScalableTag<double> d;
  const hn::Rebind<float, decltype(d)> df;
  const std::size_t lanes = hn::Lanes(d), count = p.logits.size();
  const auto p_most = hn::Set(df, p.largest), q_most = hn::Set(df, q.largest);
  const auto p_share = hn::Set(d, 1 / p.sum), q_share = hn::Set(d, 1 / q.sum);
  auto shift = hn::Zero(d), variation = hn::Zero(d), depth_p = hn::Zero(d), depth_q = hn::Zero(d);
  std::size_t v = 0;
  for (; v + lanes <= count; v += lanes) {
    const auto p_logit = hn::LoadU(df, p.logits.data() + v), q_logit = hn::LoadU(df, q.logits.data() + v);
    const auto p_exp = hn::PromoteTo(d, hn::LoadU(df, p.exponentials.data() + v));
    const auto q_exp = hn::PromoteTo(d, hn::LoadU(df, q.exponentials.data() + v));
    shift = hn::MulAdd(p_exp, hn::Sub(hn::PromoteTo(d, p_logit), hn::PromoteTo(d, q_logit)), shift);
    variation = hn::Add(variation, hn::Abs(hn::Sub(hn::Mul(p_exp, p_share), hn::Mul(q_exp, q_share))));
    depth_p = hn::MulAdd(p_exp, hn::PromoteTo(d, hn::Sub(p_most, p_logit)), depth_p);
    depth_q = hn::MulAdd(q_exp, hn::PromoteTo(d, hn::Sub(q_most, q_logit)), depth_q);
  }
  SoftmaxSums sums{SumOf(d, shift), SumOf(d, variation), SumOf(d, depth_p), SumOf(d, depth_q)};
  for (; v < count; ++v) {
    const double p_exp = p.exponentials[v], q_exp = q.exponentials[v];
    sums.shift += p_exp * (static_cast<double>(p.logits[v]) - static_cast<double>(q.logits[v]));
    sums.variation += std::abs(p_exp * (1 / p.sum) - q_exp * (1 / q.sum));
    sums.depth_p += p_exp * static_cast<double>(p.largest - p.logits[v]);
    sums.depth_q += q_exp * static_cast<double>(q.largest - q.logits[v]);
  }
  return {sums.shift / p.sum, sums.variation, sums.depth_p / p.sum, sums.depth_q / q.sum};
}

/// Puts place `v` where it belongs among the sorted `ids`; the last one goes.
void InsertPlace(const float* values, std::uint32_t v, std::span<std::uint32_t> ids) {
  std::size_t at = ids.size() - 1;
  for (; at > 0 && values[ids[at - 1]] < values[v]; --at) ids[at] = ids[at - 1];
  ids[at] = v;
}

void LargestPlaces(const float* values, std::size_t count, std::span<std::uint32_t> ids) {
  const Floats d;
  const std::size_t lanes = hn::Lanes(d), wanted = ids.size();
  for (std::size_t i = 0; i < wanted; ++i) {
    ids[i] = static_cast<std::uint32_t>(i);
    InsertPlace(values, ids[i], ids.first(i + 1));
  }
  std::size_t v = wanted;
  const auto take = [&](std::size_t end) {
    for (; v < end; ++v)
      if (values[v] > values[ids[wanted - 1]]) InsertPlace(values, static_cast<std::uint32_t>(v), ids);
  };
  while (v + 4 * lanes <= count) {  // four vectors at a time: few of them hold one of the largest
    const auto first = hn::Max(hn::LoadU(d, values + v), hn::LoadU(d, values + v + lanes));
    const auto second = hn::Max(hn::LoadU(d, values + v + 2 * lanes), hn::LoadU(d, values + v + 3 * lanes));
    const auto least = hn::Set(d, values[ids[wanted - 1]]);
    if (hn::AllFalse(d, hn::Gt(hn::Max(first, second), least)))
      v += 4 * lanes;
    else
      take(v + 4 * lanes);
  }
  take(count);
}

void MultiplyBy(float factor, float* values, std::size_t count) {
  const Floats d;
  const std::size_t lanes = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes)
    hn::StoreU(hn::Mul(hn::LoadU(d, values + i), hn::Set(d, factor)), d, values + i);
  for (; i < count; ++i) values[i] *= factor;
}

void ScaleByWeights(const float* in, float scale, float offset, const float* HWY_RESTRICT weights, float* out,
                    std::size_t count) {
  const Floats d;
  const std::size_t lanes = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto scaled = hn::Mul(hn::LoadU(d, in + i), hn::Set(d, scale));
    hn::StoreU(hn::Mul(scaled, hn::Add(hn::Set(d, offset), hn::LoadU(d, weights + i))), d, out + i);
  }
  for (; i < count; ++i) out[i] = in[i] * scale * (offset + weights[i]);
}

template <class D>
void SiluTimes(D d, const float* HWY_RESTRICT gate, float* HWY_RESTRICT up) {
  const auto g = hn::LoadU(d, gate);
  const auto silu = hn::Div(g, hn::Add(hn::Set(d, 1.0f), Exp(d, hn::Neg(g))));
  hn::StoreU(hn::Mul(silu, hn::LoadU(d, up)), d, up);
}

void MultiplyBySilu(const float* HWY_RESTRICT gate, float* HWY_RESTRICT up, std::size_t count) {
  const Floats d;
  const std::size_t lanes = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes) SiluTimes(d, gate + i, up + i);
  const hn::CappedTag<float, 1> one;
  for (; i < count; ++i) SiluTimes(one, gate + i, up + i);
}

/// gelu(g) = g / (1 + exp(-2 u)), since 1 + tanh(u) = 2 / (1 + exp(-2 u)).
template <class D>
void GeluTanhTimes(D d, const float* HWY_RESTRICT gate, float* HWY_RESTRICT up) {
  const auto g = hn::LoadU(d, gate);
  const auto cubed = hn::Mul(hn::Set(d, 0.044715f), hn::Mul(hn::Mul(g, g), g));
  const auto exponent = hn::Mul(hn::Set(d, -1.5957691216057308f), hn::Add(g, cubed));  // -2 sqrt(2 / pi)
  const auto gelu = hn::Div(g, hn::Add(hn::Set(d, 1.0f), Exp(d, exponent)));
  hn::StoreU(hn::Mul(gelu, hn::LoadU(d, up)), d, up);
}

void MultiplyByGeluTanh(const float* HWY_RESTRICT gate, float* HWY_RESTRICT up, std::size_t count) {
  const Floats d;
  const std::size_t lanes = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes) GeluTanhTimes(d, gate + i, up + i);
  const hn::CappedTag<float, 1> one;
  for (; i < count; ++i) GeluTanhTimes(one, gate + i, up + i);
}

/// tanh(y) = sign(y) (1 - e) / (1 + e), e = exp(-2 |y|): no exponential is above 1.
template <class D>
void CapOne(D d, float cap, float scale, float* HWY_RESTRICT values) {
  const auto y = hn::Mul(hn::LoadU(d, values), hn::Set(d, scale));
  const auto e = Exp(d, hn::Mul(hn::Set(d, -2.0f), hn::Abs(y)));
  const auto one = hn::Set(d, 1.0f);
  const auto size = hn::Div(hn::Sub(one, e), hn::Add(one, e));
  hn::StoreU(hn::Mul(hn::Set(d, cap), hn::CopySign(size, y)), d, values);
}

void SoftCap(float cap, float scale, float* HWY_RESTRICT values, std::size_t count) {
  const Floats d;
  const std::size_t lanes = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes) CapOne(d, cap, scale, values + i);
  const hn::CappedTag<float, 1> one;
  for (; i < count; ++i) CapOne(one, cap, scale, values + i);
}

}  // namespace HWY_NAMESPACE
}  // namespace adze
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace adze {

HWY_EXPORT(Largest);
HWY_EXPORT(LargestMagnitude);
HWY_EXPORT(ExpShifted);
HWY_EXPORT(CompareSoftmaxes);
HWY_EXPORT(LargestPlaces);
HWY_EXPORT(MultiplyBy);
HWY_EXPORT(ScaleByWeights);
HWY_EXPORT(MultiplyBySilu);
HWY_EXPORT(MultiplyByGeluTanh);
HWY_EXPORT(SoftCap);

float largest(std::span<const float> values) {
  assert(!values.empty());
  return HWY_DYNAMIC_DISPATCH(Largest)(values.data(), values.size());
}

float largest_magnitude(std::span<const float> values) {
  return HWY_DYNAMIC_DISPATCH(LargestMagnitude)(values.data(), values.size());
}

double exp_shifted(std::span<const float> in, float shift, float scale, std::span<float> out) {
  assert(in.size() == out.size());
  return HWY_DYNAMIC_DISPATCH(ExpShifted)(in.data(), shift, scale, out.data(), in.size());
}

SoftmaxSums compare_softmaxes(const SoftmaxView& p, const SoftmaxView& q) {
  assert(p.logits.size() == q.logits.size() && p.exponentials.size() == p.logits.size() &&
         q.exponentials.size() == q.logits.size());
  return HWY_DYNAMIC_DISPATCH(CompareSoftmaxes)(p, q);
}

void largest_places(std::span<const float> values, std::span<std::uint32_t> ids) {
  assert(!ids.empty() && ids.size() <= values.size());
  HWY_DYNAMIC_DISPATCH(LargestPlaces)(values.data(), values.size(), ids);
}

void multiply_by(float factor, std::span<float> values) {
  HWY_DYNAMIC_DISPATCH(MultiplyBy)(factor, values.data(), values.size());
}

void scale_by_weights(std::span<const float> in, float scale, float offset, std::span<const float> weights,
                      std::span<float> out) {
  assert(in.size() == out.size() && weights.size() == in.size());
  HWY_DYNAMIC_DISPATCH(ScaleByWeights)(in.data(), scale, offset, weights.data(), out.data(), in.size());
}

void multiply_by_silu(std::span<const float> gate, std::span<float> up) {
  assert(gate.size() == up.size());
  HWY_DYNAMIC_DISPATCH(MultiplyBySilu)(gate.data(), up.data(), up.size());
}

void multiply_by_gelu_tanh(std::span<const float> gate, std::span<float> up) {
  assert(gate.size() == up.size());
  HWY_DYNAMIC_DISPATCH(MultiplyByGeluTanh)(gate.data(), up.data(), up.size());
}

void soft_cap(float cap, float scale, std::span<float> values) {
  HWY_DYNAMIC_DISPATCH(SoftCap)(cap, scale / cap, values.data(), values.size());
}

}  // namespace adze
#endif
