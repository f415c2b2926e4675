#include "linalg/widening_sums.h"

#include <algorithm>
#include <cassert>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "linalg/widening_sums.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace adze {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Doubles = hn::ScalableTag<double>;
using HalfFloats = hn::Rebind<float, Doubles>;

void AddWidened(const float* HWY_RESTRICT values, double* HWY_RESTRICT sums, std::size_t count) {
  const Doubles d;
  const HalfFloats df;
  const std::size_t lanes = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes)
    hn::StoreU(hn::Add(hn::LoadU(d, sums + i), hn::PromoteTo(d, hn::LoadU(df, values + i))), d, sums + i);
  for (; i < count; ++i) sums[i] += static_cast<double>(values[i]);
}

void AddRow(const float* HWY_RESTRICT x, double* HWY_RESTRICT sum, double* HWY_RESTRICT abs_sum,
            float* HWY_RESTRICT abs_max, std::size_t count) {
  const Doubles d;
  const HalfFloats df;
  const std::size_t lanes = hn::Lanes(d);
  std::size_t c = 0;
  for (; c + lanes <= count; c += lanes) {
    const auto value = hn::LoadU(df, x + c);
    const auto magnitude = hn::Abs(value);
    hn::StoreU(hn::Add(hn::LoadU(d, sum + c), hn::PromoteTo(d, value)), d, sum + c);
    hn::StoreU(hn::Add(hn::LoadU(d, abs_sum + c), hn::PromoteTo(d, magnitude)), d, abs_sum + c);
    hn::StoreU(hn::Max(hn::LoadU(df, abs_max + c), magnitude), df, abs_max + c);
  }
  for (; c < count; ++c) {
    const float magnitude = std::fabs(x[c]);
    sum[c] += static_cast<double>(x[c]);
    abs_sum[c] += static_cast<double>(magnitude);
    abs_max[c] = std::max(abs_max[c], magnitude);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace adze
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace adze {

HWY_EXPORT(AddWidened);
HWY_EXPORT(AddRow);

void add_widened(std::span<const float> values, std::span<double> sums) {
  assert(values.size() == sums.size());
  HWY_DYNAMIC_DISPATCH(AddWidened)(values.data(), sums.data(), values.size());
}

bool add_columns(ConstViewF x, const ColumnSums& sums) {
  assert(sums.sum.size() == x.cols() && sums.abs_sum.size() == x.cols() && sums.abs_max.size() == x.cols());
  for (std::size_t t = 0; t < x.rows(); ++t) HWY_DYNAMIC_DISPATCH(AddRow)
  (x.row(t).data(), sums.sum.data(), sums.abs_sum.data(), sums.abs_max.data(), x.cols());
  // Magnitudes of floats add up to far less than the largest double: where the sum is finite, every one of them was.
  return std::ranges::all_of(sums.abs_sum, [](double sum) { return std::isfinite(sum); });
}

}  // namespace adze
#endif
