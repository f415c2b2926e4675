#include "report/chart/axis.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "report/numbers.h"

namespace adze {
namespace {

bool can_show_on(AxisKind kind, double value) {
  return std::isfinite(value) && (kind == AxisKind::linear || value > 0);
}

/// The least of 1, 2 and 5 times a power of ten that cuts `range` into no more than `most` steps.
double round_step(double range, double most) {
  const double power = std::pow(10, std::floor(std::log10(range / most)));
  for (const double times : {1.0, 2.0, 5.0})
    if (range / (times * power) <= most) return times * power;
  return 10 * power;
}

std::vector<double> linear_marks(double least, double most, double count) {
  const double step = round_step(most - least, count);
  std::vector<double> marks;
  for (double i = std::ceil(least / step); i * step <= most + 1e-9 * step; ++i)
    marks.push_back(i * step);  // multiplied, not added up: 0.3 stays 0.3
  return marks;
}

/// Powers of `base`, or every nth of them. least, most: logarithms.
std::vector<double> powers(double base, double least, double most, double count) {
  const double every = std::max(1.0, std::ceil((most - least) / count));
  std::vector<double> marks;
  for (double power = std::ceil(least / every) * every; power <= most; power += every)
    marks.push_back(std::pow(base, power));
  return marks;
}

/// Decades with their halves and fifths.
std::vector<double> decimal_marks(double least, double most) {
  std::vector<double> marks;
  for (double power = std::floor(least); power <= most; ++power)
    for (const double digit : {1.0, 2.0, 5.0}) {
      const double mark = digit * std::pow(10, power);
      if (std::log10(mark) >= least && std::log10(mark) <= most) marks.push_back(mark);
    }
  return marks;
}

}  // namespace

bool AxisRange::can_show(double value) const { return can_show_on(kind_, value); }

void AxisRange::add(double value) {
  if (!can_show(value)) return;
  least_ = std::min(least_, value);
  most_ = std::max(most_, value);
}

Scale::Scale(const AxisRange& range, double begin, double end, double margin)
    : kind_(range.kind()), begin_(begin), end_(end) {
  const bool is_log = kind_ != AxisKind::linear;
  if (range.empty()) {
    least_ = is_log ? inner(0.1) : 0;
    most_ = is_log ? inner(10) : 1;
    return;
  }
  least_ = inner(range.least());
  most_ = inner(range.most());
  double free = margin * (most_ - least_);
  if (most_ - least_ <= 1e-9 * std::max(std::abs(least_), std::abs(most_)) || most_ == least_) {
    constexpr double kAroundOne = 0.1;  // of a single value: on either side
    free = is_log ? 0.5 : std::max(kAroundOne * std::abs(most_), least_ == 0 ? 1.0 : 0.0);
  }
  least_ -= free;
  most_ += free;
}

bool Scale::can_show(double value) const { return can_show_on(kind_, value); }

double Scale::inner(double value) const {
  switch (kind_) {
    case AxisKind::log10:
      return std::log10(value);
    case AxisKind::log2:
      return std::log2(value);
    default:
      return value;
  }
}

double Scale::place(double value) const {
  return begin_ + (inner(value) - least_) / (most_ - least_) * (end_ - begin_);
}

std::vector<Tick> Scale::ticks(double spacing) const {
  const double count = std::max(2.0, std::abs(end_ - begin_) / spacing);
  std::vector<double> marks;
  if (kind_ == AxisKind::linear) {
    marks = linear_marks(least_, most_, count);
  } else {
    const double base = kind_ == AxisKind::log10 ? 10 : 2;
    marks = powers(base, least_, most_, count);
    if (kind_ == AxisKind::log10)
      if (auto finer = decimal_marks(least_, most_); static_cast<double>(finer.size()) <= count)
        marks = std::move(finer);
    // Less than a power wide: plain steps, at their unequal distances.
    if (marks.size() < 2) marks = linear_marks(std::pow(base, least_), std::pow(base, most_), std::min(count, 5.0));
  }
  std::vector<Tick> ticks;
  for (const double mark : marks) ticks.push_back({mark, axis_number(mark)});
  return ticks;
}

}  // namespace adze
