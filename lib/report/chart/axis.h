// Axes: from values to places, and the marks between. The one place where ticks are chosen.
#pragma once

#include <limits>
#include <string>
#include <vector>

namespace adze {

enum class AxisKind { linear, log10, log2 };

struct Axis {
  std::string title = {};
  AxisKind kind = AxisKind::linear;
};

struct Tick {
  double value = 0;
  std::string text;
};

/// The range of values that an axis must hold. Those that it cannot show are left out: what is no number and, on a
/// logarithmic one, what is not above 0.
class AxisRange {
 public:
  explicit AxisRange(AxisKind kind) : kind_(kind) {}

  AxisKind kind() const { return kind_; }
  bool can_show(double value) const;
  void add(double value);
  bool empty() const { return least_ > most_; }
  double least() const { return least_; }
  double most() const { return most_; }

 private:
  AxisKind kind_;
  double least_ = std::numeric_limits<double>::infinity();
  double most_ = -std::numeric_limits<double>::infinity();
};

/// Maps a range to places from `begin` to `end`, which may run either way.
class Scale {
 public:
  /// `margin`: what is left free at both ends, as a share. A range of nothing or of one value is widened.
  Scale(const AxisRange& range, double begin, double end, double margin = 0.04);

  bool can_show(double value) const;
  /// Of a value that can be shown.
  double place(double value) const;
  double begin() const { return begin_; }
  double end() const { return end_; }
  /// Round values inside the range, in order; about one for `spacing` pixels, and at least two where two are round.
  std::vector<Tick> ticks(double spacing) const;

 private:
  double inner(double value) const;  ///< as the axis runs: a logarithm, or itself

  AxisKind kind_;
  double least_, most_;  ///< of inner values
  double begin_, end_;
};

}  // namespace adze
