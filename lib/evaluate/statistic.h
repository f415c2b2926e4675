// The means over predictions that a judgement reports, in one table: what a window adds up, what is resampled, what
// JSON calls it. A new one is a row here and its definition in docs/evaluation.md.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>

#include "evaluate/token_score.h"

namespace adze {

enum class Statistic : std::uint8_t {
  nll,
  entropy,
  top_right,
  top_probability,
  top_surprise,
  confidence_loss,
  nll_base,
  entropy_base,
  top_right_base,
  top_probability_base,
  top_surprise_base,
  confidence_loss_base,
  added_loss,
  kl,
  dp,
  dp_square,
  same_top,
  overlap,
  agreement_3,
  agreement_5,
  agreement_10,
  agreement_20,
  tau_3,
  tau_10,
  tau_20,
  rho_3,
  rho_10,
  rho_20,
  energy_change,
  energy_distance,
  count,
};
inline constexpr std::size_t kStatisticCount = static_cast<std::size_t>(Statistic::count);

/// Where a mean can lie: intervals are cut there.
struct Bounds {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
};

struct StatisticInfo {
  Statistic statistic;
  std::string_view name;
  bool of_model_alone;  ///< needs no reference
  Bounds bounds;
  double (*of)(const TokenScore&);
};

/// One row for each, in the order of the enum.
const std::array<StatisticInfo, kStatisticCount>& statistics();
inline const StatisticInfo& info_of(Statistic statistic) { return statistics()[static_cast<std::size_t>(statistic)]; }

/// A value for each statistic.
template <typename T>
struct PerStatistic {
  std::array<T, kStatisticCount> values{};

  T& operator[](Statistic statistic) { return values[static_cast<std::size_t>(statistic)]; }
  const T& operator[](Statistic statistic) const { return values[static_cast<std::size_t>(statistic)]; }
};

}  // namespace adze
