// How alike two orders are.
#pragma once

#include <span>

namespace adze {

/// Kendall's tau-b of paired values, -1 to 1: agreeing pairs less disagreeing ones over the geometric mean of pairs
/// that each side tells apart; 0 where one side tells none. Quadratic in their number. a, b: of one size.
double kendall_tau(std::span<const double> a, std::span<const double> b);

}  // namespace adze
