// How far two rankings of the same few items agree. For next-token predictions the items are the tokens that the
// reference ranks highest, so that the thousands that nobody would say do not drown them.
#pragma once

#include <span>

namespace adze {

/// Kendall's tau-b: concordant less discordant pairs over all that are untied, sqrt((n0 - ties a) (n0 - ties b)).
/// Where one side is tied throughout it is undefined: 1 if both are, otherwise 0. Equal sizes, at least 2; O(n^2).
double kendall_tau_b(std::span<const float> a, std::span<const float> b);

/// Spearman's rho: Pearson's correlation of ranks, ties sharing the mean of theirs. Undefined cases as kendall_tau_b.
double spearman_rho(std::span<const float> a, std::span<const float> b);

}  // namespace adze
