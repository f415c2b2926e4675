#include "calibrate/statistics.h"

#include <algorithm>
#include <utility>

#include "base/checked.h"
#include "base/error.h"
#include "base/parallel.h"
#include "linalg/second_moment.h"
#include "linalg/widening_sums.h"

namespace adze {
namespace {

constexpr std::size_t kColumnTile = 256;

template <typename T>
void add_to(std::vector<T>& sums, const std::vector<T>& more) {
  std::ranges::transform(sums, more, sums.begin(), std::plus<>());
}

/// Sums of columns of one input with a batch of rows more, which count only once all of them are known to be finite.
struct Totals {
  std::vector<double> sum, abs_sum;
  std::vector<float> abs_max;
};

std::vector<Totals> totals_with(std::span<const InputRows> inputs) {
  std::vector<Totals> totals;
  std::vector<std::pair<std::size_t, std::size_t>> tiles;  // an input and its first column
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const InputStatistics& before = *inputs[i].statistics;
    totals.push_back({before.sum, before.abs_sum, before.abs_max});
    for (std::size_t first = 0; first < before.inputs(); first += kColumnTile) tiles.emplace_back(i, first);
  }
  std::vector<char> finite(tiles.size());
  parallel_for(tiles.size(), [&](std::size_t t) {
    const auto [i, first] = tiles[t];
    const std::size_t count = std::min(kColumnTile, inputs[i].x.cols() - first);
    finite[t] = add_columns(inputs[i].x.col_range(first, count), {std::span(totals[i].sum).subspan(first, count),
                                                                  std::span(totals[i].abs_sum).subspan(first, count),
                                                                  std::span(totals[i].abs_max).subspan(first, count)});
  });
  const auto bad = std::ranges::find(finite, 0);
  if (bad == finite.end()) return totals;
  const std::string& name = inputs[tiles[static_cast<std::size_t>(bad - finite.begin())].first].name;
  fail(ErrorKind::bad_data, "{}activations are not finite: the model overflows on this text",
       name.empty() ? "" : fmt::format("input of {}: ", name));
}

}  // namespace

InputStatistics::InputStatistics(std::size_t inputs)
    : second_moment(inputs, inputs), sum(inputs), abs_sum(inputs), abs_max(inputs) {}

void InputStatistics::add(ConstViewF x, std::size_t slice_tokens) {
  const InputRows rows{this, x, {}};
  add_together({&rows, 1}, slice_tokens);
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
  borrowed = checked_add(borrowed, other.borrowed);
}

void add_together(std::span<const InputRows> inputs, std::size_t slice_tokens) {
  std::vector<Totals> totals = totals_with(inputs);
  std::vector<MomentSum> moments;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    InputStatistics& statistics = *inputs[i].statistics;
    statistics.sum = std::move(totals[i].sum);
    statistics.abs_sum = std::move(totals[i].abs_sum);
    statistics.abs_max = std::move(totals[i].abs_max);
    statistics.tokens += inputs[i].x.rows();
    moments.push_back({inputs[i].x, statistics.second_moment});
  }
  add_second_moments(moments, slice_tokens);
}

}  // namespace adze
