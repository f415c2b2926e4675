#include "linalg/quantized_product.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "base/checked.h"
#include "base/error.h"
#include "base/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "linalg/quantized_product.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#ifndef ADZE_QUANTIZED_PRODUCT_INPUT
#define ADZE_QUANTIZED_PRODUCT_INPUT
namespace adze {

/// Of so many products of 15 and 2^15 the sum stays below 2^31, whatever lane it is in.
constexpr std::size_t kExactColumns = 2048;

/// x in 16 bits a group. A lane of 16 bits holds four codes: of columns 4 j + k, k = 0 .. 3, plane k has entry j.
struct RoundedInput {
  std::vector<std::int16_t> planes[4];
  std::vector<float> scales;  ///< per group
  std::vector<float> sums;    ///< per group, of the rounded entries; what zero points multiply
};

}  // namespace adze
#endif

HWY_BEFORE_NAMESPACE();
namespace adze {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_SCALAR  // one lane cannot hold the sum of a pair

HWY_INLINE void LoadScales(DType dtype, const std::byte* in, std::size_t count, float* out) {
  for (std::size_t i = 0; i < count; ++i) {
    std::uint16_t bits = 0;
    if (dtype == DType::f32) {
      std::memcpy(out + i, in + 4 * i, 4);
    } else {
      std::memcpy(&bits, in + 2 * i, 2);
      out[i] = dtype == DType::f16 ? f16_to_float(bits) : bf16_to_float(bits);
    }
  }
}

constexpr bool kTwoGroups = false;

template <std::size_t, bool>
float CodesTimesInput(const std::byte* codes, const RoundedInput& x, std::size_t group, std::size_t groups,
                      const float* scales) {
  float total = 0;
  for (std::size_t g = 0; g < groups; ++g) {
    for (std::size_t c = g * group; c < (g + 1) * group;) {
      std::int32_t sum = 0;
      for (const std::size_t end = std::min((g + 1) * group, c + kExactColumns); c < end; ++c)
        sum += (std::to_integer<std::int32_t>(codes[c / 2]) >> (c % 2 * 4) & 15) * x.planes[c % 4][c / 4];
      total += static_cast<float>(sum) * scales[g];
    }
  }
  return total;
}

#else

/// Scales as floats, to `out`, one per group.
HWY_INLINE void LoadScales(DType dtype, const std::byte* HWY_RESTRICT in, std::size_t count, float* HWY_RESTRICT out) {
  if (dtype == DType::f32) {
    std::memcpy(out, in, count * sizeof(float));
    return;
  }
  const hn::ScalableTag<float> df;
  const hn::Rebind<std::uint16_t, decltype(df)> d16;
  const hn::Repartition<std::uint8_t, decltype(d16)> d8;
  const hn::Rebind<hwy::float16_t, decltype(df)> dh;
  const hn::RebindToUnsigned<decltype(df)> du;
  const std::size_t lanes = hn::Lanes(df);
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto bits = hn::BitCast(d16, hn::LoadU(d8, reinterpret_cast<const std::uint8_t*>(in) + 2 * i));
    hn::StoreU(dtype == DType::f16 ? hn::PromoteTo(df, hn::BitCast(dh, bits))
                                   : hn::BitCast(df, hn::ShiftLeft<16>(hn::PromoteTo(du, bits))),
               df, out + i);
  }
  for (; i < count; ++i) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, in + 2 * i, 2);
    out[i] = dtype == DType::f16 ? f16_to_float(bits) : bf16_to_float(bits);
  }
}

/// Where a vector of 16 lanes of four codes holds two groups of 32, and the sums of neighbouring lanes stay in order.
constexpr bool kTwoGroups = HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2;

/// Sum over groups of scale * (sum of code * x), in vectors of at most kLanes lanes of four codes. kPair: each vector
/// holds two groups.
template <std::size_t kLanes, bool kPair>
float CodesTimesInput(const std::byte* HWY_RESTRICT codes, const RoundedInput& x, std::size_t group, std::size_t groups,
                      const float* HWY_RESTRICT scales) {
  const hn::CappedTag<std::uint16_t, kLanes> du;
  const hn::Repartition<std::uint8_t, decltype(du)> d8;
  const hn::RebindToSigned<decltype(du)> di;
  const hn::RepartitionToWide<decltype(di)> dw;
  const hn::Rebind<float, decltype(dw)> df;
  const auto low = hn::Set(du, 15);
  const std::int16_t* HWY_RESTRICT x0 = x.planes[0].data();
  const std::int16_t* HWY_RESTRICT x1 = x.planes[1].data();
  const std::int16_t* HWY_RESTRICT x2 = x.planes[2].data();
  const std::int16_t* HWY_RESTRICT x3 = x.planes[3].data();
  const std::size_t lanes = hn::Lanes(du);
  const auto* HWY_RESTRICT at = reinterpret_cast<const std::uint8_t*>(codes);
  auto total = hn::Zero(df);
  std::size_t j = 0;  // lane of four codes in the row
  const std::size_t step = kPair ? 2 : 1;
  const auto first_half = hn::FirstN(df, hn::Lanes(df) / 2);
  for (std::size_t g = 0; g < groups; g += step) {
    auto scale = hn::Set(df, scales[g]);
    if constexpr (kPair) scale = hn::IfThenElse(first_half, scale, hn::Set(df, scales[g + 1]));
    for (const std::size_t group_end = j + step * group / 4; j < group_end;) {
      auto even = hn::Zero(dw), odd = hn::Zero(dw), even2 = hn::Zero(dw), odd2 = hn::Zero(dw);
      for (const std::size_t end = std::min(group_end, j + kExactColumns / 4); j < end; j += lanes) {
        const auto four = hn::BitCast(du, hn::LoadU(d8, at + 2 * j));
        const auto add = [&](auto bits, const std::int16_t* input, auto& sum0, auto& sum1) {
          sum0 = hn::ReorderWidenMulAccumulate(dw, hn::BitCast(di, bits), hn::LoadU(di, input + j), sum0, sum1);
        };
        add(hn::And(four, low), x0, even, odd);
        add(hn::And(hn::ShiftRight<4>(four), low), x1, even2, odd2);
        add(hn::And(hn::ShiftRight<8>(four), low), x2, even, odd);
        add(hn::ShiftRight<12>(four), x3, even2, odd2);
      }
      const auto sum = hn::Add(hn::Add(even, even2), hn::Add(odd, odd2));
      total = hn::MulAdd(hn::ConvertTo(df, sum), scale, total);
    }
  }
  return hn::GetLane(hn::SumOfLanes(df, total));
}

#endif

/// scale *= that of x; the sum over groups of scale * zero * (sum of x), zero = 8 where there are none.
HWY_INLINE float ZerosTimesInput(const std::uint8_t* HWY_RESTRICT zeros, const RoundedInput& x, std::size_t groups,
                                 float* HWY_RESTRICT scales) {
  const hn::ScalableTag<float> df;
  const hn::Rebind<std::uint8_t, decltype(df)> d8;
  const hn::RebindToSigned<decltype(df)> di;
  const std::size_t lanes = hn::Lanes(df);
  auto total = hn::Zero(df);
  std::size_t g = 0;
  for (; g + lanes <= groups; g += lanes) {
    const auto scale = hn::Mul(hn::LoadU(df, scales + g), hn::LoadU(df, x.scales.data() + g));
    hn::StoreU(scale, df, scales + g);
    const auto zero =
        zeros == nullptr ? hn::Set(df, 8.0f) : hn::ConvertTo(df, hn::PromoteTo(di, hn::LoadU(d8, zeros + g)));
    total = hn::MulAdd(scale, hn::Mul(zero, hn::LoadU(df, x.sums.data() + g)), total);
  }
  float sum = hn::GetLane(hn::SumOfLanes(df, total));
  for (; g < groups; ++g) {
    scales[g] *= x.scales[g];
    sum += scales[g] * ((zeros == nullptr ? 8.0f : static_cast<float>(zeros[g])) * x.sums[g]);
  }
  return sum;
}

/// Rows [first, end) of y. The buffers have an entry for every group, and one more.
void MultiplyRows(const FourBitRows& weights, const RoundedInput& x, std::size_t first, std::size_t end, float* scales,
                  std::uint8_t* zeros, float* y) {
  const std::size_t groups = weights.groups(), scale_bytes = weights.scale_bytes(), zero_bytes = weights.zero_bytes();
  const bool pairs = kTwoGroups && weights.group == 32 && groups % 2 == 0;
  const auto product = weights.group % 64 == 0 ? &CodesTimesInput<16, false>
                       : pairs                 ? &CodesTimesInput<16, true>
                                               : &CodesTimesInput<8, false>;
  const std::byte* row = weights.bytes.data() + first * weights.row_bytes();
  for (std::size_t r = first; r < end; ++r, row += weights.row_bytes()) {
    LoadScales(weights.scale_dtype, row, groups, scales);
    for (std::size_t b = 0; b < zero_bytes; ++b) {
      const auto pair = std::to_integer<std::uint8_t>(row[scale_bytes + b]);
      zeros[2 * b] = pair & 15;
      zeros[2 * b + 1] = static_cast<std::uint8_t>(pair >> 4);
    }
    const float offset = ZerosTimesInput(weights.symmetric ? nullptr : zeros, x, groups, scales);
    const std::byte* const codes = row + scale_bytes + zero_bytes;
    y[r] = product(codes, x, weights.group, groups, scales) - offset;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace adze
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace adze {

HWY_EXPORT(MultiplyRows);

namespace {

constexpr float kLargest = 32767.0f;
constexpr std::size_t kTileBytes = std::size_t{256} << 10;  // of a thread at a time: far more than starting it takes

RoundedInput rounded(std::span<const float> x, std::size_t group) {
  RoundedInput result;
  for (auto& plane : result.planes) plane.resize(x.size() / 4);
  for (std::size_t first = 0; first < x.size(); first += group) {
    float largest = 0;
    for (const float value : x.subspan(first, group)) largest = std::max(largest, std::fabs(value));
    const float scale = largest / kLargest;
    const float inverse = std::isfinite(kLargest / largest) ? kLargest / largest : 0.0f;  // of next to nothing, nothing
    std::int64_t sum = 0;
    for (std::size_t c = first; c < first + group; ++c) {
      const auto entry = static_cast<std::int16_t>(std::lrint(std::clamp(x[c] * inverse, -kLargest, kLargest)));
      result.planes[c % 4][c / 4] = entry;
      sum += entry;
    }
    result.scales.push_back(scale);
    result.sums.push_back(static_cast<float>(sum));
  }
  return result;
}

}  // namespace

void multiply_four_bit(const FourBitRows& weights, std::span<const float> x, std::span<float> y) {
  const Shape shape = weights.shape;
  if (weights.group == 0 || weights.group % 32 != 0 || shape.cols % weights.group != 0 ||
      !is_weight_dtype(weights.scale_dtype) || weights.bytes.size() != shape.rows * weights.row_bytes() ||
      x.size() != shape.cols || y.size() != shape.rows)
    fail(ErrorKind::internal, "{} x {} weights of 4 bits in groups of {} by {} inputs for {} outputs", shape.rows,
         shape.cols, weights.group, x.size(), y.size());
  const RoundedInput input = rounded(x, weights.group);
  const std::size_t tile = std::max<std::size_t>(1, kTileBytes / std::max<std::size_t>(1, weights.row_bytes()));
  parallel_for(divide_up(shape.rows, tile), [&](std::size_t t) {
    std::vector<float> scales(weights.groups());
    std::vector<std::uint8_t> zeros(weights.groups() + 1);
    HWY_DYNAMIC_DISPATCH(MultiplyRows)
    (weights, input, t * tile, std::min(shape.rows, (t + 1) * tile), scales.data(), zeros.data(), y.data());
  });
}

}  // namespace adze
#endif
