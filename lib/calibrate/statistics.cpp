#include "calibrate/statistics.h"

#include <algorithm>
#include <cmath>

#include "base/checked.h"
#include "base/error.h"
#include "base/parallel.h"
#include "linalg/convert.h"
#include "linalg/second_moment.h"

namespace adze {
namespace {

constexpr std::size_t kColumnTile = 256;

template <typename T>
void add_to(std::vector<T>& sums, const std::vector<T>& more) {
  std::ranges::transform(sums, more, sums.begin(), std::plus<>());
}

}  // namespace

InputStatistics::InputStatistics(std::size_t inputs)
    : second_moment(inputs, inputs), sum(inputs), abs_sum(inputs), abs_max(inputs) {}

void InputStatistics::add(ConstViewF x, std::size_t slice_tokens) {
  for (std::size_t t = 0; t < x.rows(); ++t)
    if (!all_finite(x.row(t)))
      fail(ErrorKind::bad_data, "activations are not finite: the model overflows on this text");
  parallel_for(divide_up(x.cols(), kColumnTile), [&](std::size_t tile) {
    const std::size_t end = std::min((tile + 1) * kColumnTile, x.cols());
    for (std::size_t t = 0; t < x.rows(); ++t)
      for (std::size_t c = tile * kColumnTile; c < end; ++c) {
        const float magnitude = std::fabs(x(t, c));
        sum[c] += static_cast<double>(x(t, c));
        abs_sum[c] += static_cast<double>(magnitude);
        abs_max[c] = std::max(abs_max[c], magnitude);
      }
  });
  add_second_moment(x, slice_tokens, second_moment);
  tokens += x.rows();
}

void InputStatistics::merge(const InputStatistics& other) {
  if (inputs() != other.inputs())
    fail(ErrorKind::bad_data, "statistics of {} inputs cannot be merged with statistics of {}", inputs(),
         other.inputs());
  std::ranges::transform(second_moment.values(), other.second_moment.values(), second_moment.values().begin(),
                         std::plus<>());
  add_to(sum, other.sum);
  add_to(abs_sum, other.abs_sum);
  std::ranges::transform(abs_max, other.abs_max, abs_max.begin(), [](float a, float b) { return std::max(a, b); });
  tokens = checked_add(tokens, other.tokens);
}

}  // namespace adze
