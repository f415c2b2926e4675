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

/// A few rows at a time: the sums of some columns are loaded and stored once for all of them, in the order of the rows.
void AddRows(const float* HWY_RESTRICT x, std::size_t stride, std::size_t rows, double* HWY_RESTRICT sum,
             double* HWY_RESTRICT abs_sum, float* HWY_RESTRICT abs_max, std::size_t count) {
  const Doubles d;
  const HalfFloats df;
  const std::size_t lanes = hn::Lanes(d);
  std::size_t c = 0;
  for (; c + lanes <= count; c += lanes) {
    auto sums = hn::LoadU(d, sum + c), abs_sums = hn::LoadU(d, abs_sum + c);
    auto most = hn::LoadU(df, abs_max + c);
    for (std::size_t r = 0; r < rows; ++r) {
      const auto value = hn::LoadU(df, x + r * stride + c);
      const auto magnitude = hn::Abs(value);
      sums = hn::Add(sums, hn::PromoteTo(d, value));
      abs_sums = hn::Add(abs_sums, hn::PromoteTo(d, magnitude));
      most = hn::Max(most, magnitude);
    }
    hn::StoreU(sums, d, sum + c);
    hn::StoreU(abs_sums, d, abs_sum + c);
    hn::StoreU(most, df, abs_max + c);
  }
  for (; c < count; ++c)
    for (std::size_t r = 0; r < rows; ++r) {
      const float value = x[r * stride + c], magnitude = std::fabs(value);
      sum[c] += static_cast<double>(value);
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
HWY_EXPORT(AddRows);

void add_widened(std::span<const float> values, std::span<double> sums) {
  assert(values.size() == sums.size());
  HWY_DYNAMIC_DISPATCH(AddWidened)(values.data(), sums.data(), values.size());
}

bool add_columns(ConstViewF x, const ColumnSums& sums) {
  assert(sums.sum.size() == x.cols() && sums.abs_sum.size() == x.cols() && sums.abs_max.size() == x.cols());
  constexpr std::size_t kRows = 16;  // cache lines of a column, few enough for the first cache
  for (std::size_t first = 0; first < x.rows(); first += kRows) {
    const std::size_t rows = std::min(kRows, x.rows() - first);
    HWY_DYNAMIC_DISPATCH(AddRows)
    (x.row(first).data(), x.stride(), rows, sums.sum.data(), sums.abs_sum.data(), sums.abs_max.data(), x.cols());
  }
  // Magnitudes of floats add up to far less than the largest double: where the sum is finite, every one of them was.
  return std::ranges::all_of(sums.abs_sum, [](double sum) { return std::isfinite(sum); });
}

}  // namespace adze
#endif
