#include "linalg/accumulate.h"

#include <cassert>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "linalg/accumulate.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace adze {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F = hn::ScalableTag<float>;
using V = hn::Vec<F>;

/// Four vectors at a time stay in registers while the rows go by.
void Accumulate(std::size_t count, const float* coefficients, const float* rows, std::size_t stride, std::size_t width,
                float* sum) {
  const F d;
  const std::size_t lanes = hn::Lanes(d);
  std::size_t k = 0;
  for (; k + 4 * lanes <= width; k += 4 * lanes) {
    V s0 = hn::LoadU(d, sum + k);
    V s1 = hn::LoadU(d, sum + k + lanes);
    V s2 = hn::LoadU(d, sum + k + 2 * lanes);
    V s3 = hn::LoadU(d, sum + k + 3 * lanes);
    const float* row = rows + k;
    for (std::size_t i = 0; i < count; ++i, row += stride) {
      const V c = hn::Set(d, coefficients[i]);
      s0 = hn::MulAdd(c, hn::LoadU(d, row), s0);
      s1 = hn::MulAdd(c, hn::LoadU(d, row + lanes), s1);
      s2 = hn::MulAdd(c, hn::LoadU(d, row + 2 * lanes), s2);
      s3 = hn::MulAdd(c, hn::LoadU(d, row + 3 * lanes), s3);
    }
    hn::StoreU(s0, d, sum + k);
    hn::StoreU(s1, d, sum + k + lanes);
    hn::StoreU(s2, d, sum + k + 2 * lanes);
    hn::StoreU(s3, d, sum + k + 3 * lanes);
  }
  for (; k < width; k += lanes) {
    const auto mask = hn::FirstN(d, width - k < lanes ? width - k : lanes);
    V s = hn::MaskedLoad(mask, d, sum + k);
    for (std::size_t i = 0; i < count; ++i)
      s = hn::MulAdd(hn::Set(d, coefficients[i]), hn::MaskedLoad(mask, d, rows + i * stride + k), s);
    hn::BlendedStore(s, mask, d, sum + k);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace adze
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace adze {

HWY_EXPORT(Accumulate);

void accumulate_rows(std::span<const float> coefficients, ConstViewF rows, std::span<float> sum) {
  assert(coefficients.size() <= rows.rows() && rows.cols() == sum.size());
  HWY_DYNAMIC_DISPATCH(Accumulate)
  (coefficients.size(), coefficients.data(), rows.data(), rows.stride(), sum.size(), sum.data());
}

}  // namespace adze
#endif
