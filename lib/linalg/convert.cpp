#include "linalg/convert.h"

#include <cblas.h>

#include <cstring>

#include <fmt/format.h>

#include "base/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "linalg/convert.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace adze {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

void Bf16ToFloat(const std::uint16_t* HWY_RESTRICT in, float* HWY_RESTRICT out, std::size_t count) {
  const hn::ScalableTag<float> df;
  const hn::Rebind<std::uint16_t, decltype(df)> d16;
  const hn::RebindToUnsigned<decltype(df)> du;
  const std::size_t lanes = hn::Lanes(df);
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes)
    hn::StoreU(hn::BitCast(df, hn::ShiftLeft<16>(hn::PromoteTo(du, hn::LoadU(d16, in + i)))), df, out + i);
  for (; i < count; ++i) out[i] = bf16_to_float(in[i]);
}

void F16ToFloat(const std::uint16_t* HWY_RESTRICT in, float* HWY_RESTRICT out, std::size_t count) {
  const hn::ScalableTag<float> df;
  const hn::Rebind<std::uint16_t, decltype(df)> d16;
  const hn::Rebind<hwy::float16_t, decltype(df)> dh;
  const std::size_t lanes = hn::Lanes(df);
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes)
    hn::StoreU(hn::PromoteTo(df, hn::BitCast(dh, hn::LoadU(d16, in + i))), df, out + i);
  for (; i < count; ++i) out[i] = f16_to_float(in[i]);
}

bool AllFinite(const float* HWY_RESTRICT values, std::size_t count) {
  const hn::ScalableTag<float> df;
  const hn::RebindToUnsigned<decltype(df)> du;
  const auto exponent = hn::Set(du, 0x7F800000u);
  const std::size_t lanes = hn::Lanes(df);
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto bits = hn::And(hn::BitCast(du, hn::LoadU(df, values + i)), exponent);
    if (!hn::AllFalse(du, hn::Eq(bits, exponent))) return false;
  }
  for (; i < count; ++i)
    if (!std::isfinite(values[i])) return false;
  return true;
}

const char* TargetName() { return hwy::TargetName(HWY_TARGET); }

}  // namespace HWY_NAMESPACE
}  // namespace adze
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace adze {

HWY_EXPORT(Bf16ToFloat);
HWY_EXPORT(F16ToFloat);
HWY_EXPORT(AllFinite);
HWY_EXPORT(TargetName);

namespace {

constexpr std::size_t kPiece = 1024;

void check_sizes(DType dtype, std::size_t bytes, std::size_t count) {
  if (!is_weight_dtype(dtype) || bytes != count * bytes_of(dtype))
    fail(ErrorKind::internal, "conversion of {} bytes of {} to or from {} floats", bytes, name_of(dtype), count);
}

/// Copies through a small aligned buffer: stored bytes may lie at any address.
template <typename Convert>
void convert_16_bit(std::span<const std::byte> in, std::span<float> out, Convert&& convert) {
  std::uint16_t buffer[kPiece];
  for (std::size_t done = 0; done < out.size(); done += kPiece) {
    const std::size_t n = std::min(kPiece, out.size() - done);
    std::memcpy(buffer, in.data() + 2 * done, 2 * n);
    convert(buffer, out.data() + done, n);
  }
}

}  // namespace

void to_float(DType dtype, std::span<const std::byte> in, std::span<float> out) {
  check_sizes(dtype, in.size(), out.size());
  if (out.empty()) return;
  if (dtype == DType::f32) {
    std::memcpy(out.data(), in.data(), in.size());
  } else if (dtype == DType::bf16) {
    convert_16_bit(in, out, HWY_DYNAMIC_DISPATCH(Bf16ToFloat));
  } else {
    convert_16_bit(in, out, HWY_DYNAMIC_DISPATCH(F16ToFloat));
  }
}

void from_float(DType dtype, std::span<const float> in, std::span<std::byte> out) {
  check_sizes(dtype, out.size(), in.size());
  if (in.empty()) return;
  if (dtype == DType::f32) {
    std::memcpy(out.data(), in.data(), out.size());
    return;
  }
  for (std::size_t i = 0; i < in.size(); ++i) {
    const std::uint16_t bits = dtype == DType::bf16 ? float_to_bf16(in[i]) : float_to_f16(in[i]);
    std::memcpy(out.data() + 2 * i, &bits, 2);
  }
}

bool all_finite(std::span<const float> values) {
  return HWY_DYNAMIC_DISPATCH(AllFinite)(values.data(), values.size());
}

std::string kernel_name() {
  return fmt::format("{}/{}", HWY_DYNAMIC_DISPATCH(TargetName)(), openblas_get_corename());
}

}  // namespace adze
#endif
