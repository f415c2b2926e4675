#include "metrics/rank_correlation.h"

#include <cassert>
#include <cmath>
#include <cstddef>

namespace adze {

double kendall_tau(std::span<const double> a, std::span<const double> b) {
  assert(a.size() == b.size());
  double agreement = 0, told_by_a = 0, told_by_b = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    for (std::size_t j = i + 1; j < a.size(); ++j) {
      const int x = (a[i] > a[j]) - (a[i] < a[j]), y = (b[i] > b[j]) - (b[i] < b[j]);
      agreement += x * y;
      told_by_a += x * x;
      told_by_b += y * y;
    }
  return told_by_a > 0 && told_by_b > 0 ? agreement / std::sqrt(told_by_a * told_by_b) : 0;
}

}  // namespace adze
