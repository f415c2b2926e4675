#include "evaluate/statistic.h"

#include <algorithm>
#include <cmath>

namespace adze {
namespace {

constexpr double kAny = std::numeric_limits<double>::infinity();
constexpr Bounds kShare{0, 1}, kCorrelation{-1, 1}, kPositive{0, kAny}, kReal{-kAny, kAny};

/// Log loss of the claim "the most likely token is right", made with probability exp(-surprise).
double claim_loss(bool right, double surprise) {
  constexpr double kLeastDoubt = 1e-12;  // of a token that takes all in float
  return right ? surprise : -std::log(std::max(-std::expm1(-surprise), kLeastDoubt));
}

using enum Statistic;
using Score = const TokenScore&;

constexpr std::array<StatisticInfo, kStatisticCount> kStatistics{{
    {nll, "nll", true, kPositive, [](Score s) { return s.nll; }},
    {entropy, "entropy", true, kPositive, [](Score s) { return s.entropy; }},
    {top_right, "top_right", true, kShare, [](Score s) { return s.top_right ? 1.0 : 0.0; }},
    {top_probability, "top_probability", true, kShare, [](Score s) { return std::exp(-s.top_surprise); }},
    {top_surprise, "top_surprise", true, kPositive, [](Score s) { return s.top_surprise; }},
    {confidence_loss, "confidence_loss", true, kPositive,
     [](Score s) { return claim_loss(s.top_right, s.top_surprise); }},
    {nll_base, "nll_base", false, kPositive, [](Score s) { return s.nll_base; }},
    {entropy_base, "entropy_base", false, kPositive, [](Score s) { return s.entropy_base; }},
    {top_right_base, "top_right_base", false, kShare, [](Score s) { return s.top_right_base ? 1.0 : 0.0; }},
    {top_probability_base, "top_probability_base", false, kShare,
     [](Score s) { return std::exp(-s.top_surprise_base); }},
    {top_surprise_base, "top_surprise_base", false, kPositive, [](Score s) { return s.top_surprise_base; }},
    {confidence_loss_base, "confidence_loss_base", false, kPositive,
     [](Score s) { return claim_loss(s.top_right_base, s.top_surprise_base); }},
    {added_loss, "added_loss", false, kReal, [](Score s) { return s.nll - s.nll_base; }},
    {kl, "kl", false, kPositive, [](Score s) { return s.kl; }},
    {dp, "dp", false, kCorrelation, [](Score s) { return s.dp; }},
    {dp_square, "dp_square", false, kShare, [](Score s) { return s.dp * s.dp; }},
    {same_top, "same_top", false, kShare, [](Score s) { return s.same_top ? 1.0 : 0.0; }},
    {overlap, "overlap", false, kShare, [](Score s) { return s.overlap; }},
    {agreement_3, "agreement_3", false, kShare, [](Score s) { return s.agreement[0]; }},
    {agreement_5, "agreement_5", false, kShare, [](Score s) { return s.agreement[1]; }},
    {agreement_10, "agreement_10", false, kShare, [](Score s) { return s.agreement[2]; }},
    {agreement_20, "agreement_20", false, kShare, [](Score s) { return s.agreement[3]; }},
    {tau_3, "tau_3", false, kCorrelation, [](Score s) { return s.tau[0]; }},
    {tau_10, "tau_10", false, kCorrelation, [](Score s) { return s.tau[1]; }},
    {tau_20, "tau_20", false, kCorrelation, [](Score s) { return s.tau[2]; }},
    {rho_3, "rho_3", false, kCorrelation, [](Score s) { return s.rho[0]; }},
    {rho_10, "rho_10", false, kCorrelation, [](Score s) { return s.rho[1]; }},
    {rho_20, "rho_20", false, kCorrelation, [](Score s) { return s.rho[2]; }},
    {energy_change, "energy_change", false, kReal, [](Score s) { return s.log_sum_base - s.log_sum; }},
    {energy_distance, "energy_distance", false, kPositive,
     [](Score s) { return std::abs(s.log_sum_base - s.log_sum); }},
}};

constexpr bool in_order() {
  for (std::size_t i = 0; i < kStatisticCount; ++i)
    if (kStatistics[i].statistic != static_cast<Statistic>(i)) return false;
  return true;
}
static_assert(in_order());

}  // namespace

const std::array<StatisticInfo, kStatisticCount>& statistics() { return kStatistics; }

}  // namespace adze
