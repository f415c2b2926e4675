// Who is calibrated on what and judged by whom: one matrix of losses for each draw, rows sources, columns judges, and
// what such matrices say (specification evaluation.md, 8.4, 10.3 and 10.4).
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/matrix.h"

namespace adze {

/// A number over draws.
struct Spread {
  double mean = 0;
  double sd = 0;                 ///< 0 with a single draw
  std::optional<double> margin;  ///< of the 95 % interval of the mean (Student's t); nothing with a single draw
  double best = 0, worst = 0;    ///< smallest and largest
};
Spread spread_of(std::span<const double> values);

/// Student's t at 97.5 %. freedom: 1 or more.
double student_quantile(std::size_t freedom);

struct Mismatch {
  std::vector<std::string> sources, judges;
  std::vector<MatrixD> draws;  ///< [sources x judges] each; smaller is better

  std::vector<double> values(std::size_t source, std::size_t judge) const;  ///< one per draw
  Spread cell(std::size_t source, std::size_t judge) const { return spread_of(values(source, judge)); }
  /// Per draw: the mean over judges, or the largest.
  std::vector<double> means(std::size_t source) const;
  std::vector<double> worsts(std::size_t source) const;
  /// The source of least mean, and of the judges' largest.
  std::size_t best_for(std::size_t judge) const;
  std::size_t best_on_average() const;
  std::size_t best_at_worst() const;
  MatrixD mean() const;
};

/// Share of pairs (r, s) of draws with a_r < b_s, ties half: P(A better than B) for losses (Bouthillier et al. 2021).
double probability_less(std::span<const double> a, std::span<const double> b);

enum class Verdict { better, worse, unresolved };
/// Decisive from a probability of 0.75 with a bootstrap interval over draws that leaves out 0.5.
Verdict compare_draws(std::span<const double> a, std::span<const double> b);

/// How stable the order of sources is from draw to draw.
struct OrderStability {
  double mean_tau = 1, low_tau = 1;  ///< Kendall's tau-b between all pairs of draws: mean and 5 % percentile
  double concordance = 1;            ///< Kendall's W
  double winner_share = 1;           ///< share of draws that the overall winner wins
};
/// losses: [draws][sources]. 1 throughout for a single draw.
OrderStability order_stability(std::span<const std::vector<double>> losses);

/// Shares of the variance of outcome[source][draw]: between sources, between draws of a source (the rest).
struct VarianceShares {
  double between_sd = 0;  ///< of the sources' means, with the part that draws explain taken out
  double within_sd = 0;   ///< of draws about their source's mean
  /// between / within; infinite where draws do not differ.
  double ratio() const;
};
VarianceShares variance_shares(std::span<const std::vector<double>> outcomes);

}  // namespace adze
