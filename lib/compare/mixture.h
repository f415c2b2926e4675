// The mixture of sets that is proposed: weights under which the expected regret (compare/moment_stage.h) is least where
// it is largest, or on average. Second moments add, so a mixture costs no pass over text (specification
// evaluation.md, 10.3).
#pragma once

#include <cstddef>
#include <vector>

#include "base/progress.h"
#include "calibrate/calibration_set.h"
#include "compare/measured_moments.h"

namespace adze {

enum class MixGoal { worst, mean };

struct MixtureProposal {
  std::vector<double> weights;                 ///< of the sets' windows; they sum to 1
  std::vector<double> log_regret;              ///< per set: log(1 + expected regret) when it judges the mixture
  double worst = 0, mean = 0;                  ///< of log_regret
  double uniform_worst = 0, uniform_mean = 0;  ///< of equal weights
};

/// Multiplicative updates of the weights by each set's regret, from equal weights on; the best seen is kept. All draws
/// count.
MixtureProposal propose_mixture(const MeasuredMoments& moments, MixGoal goal, Progress& progress);

/// How many of `windows` windows each set gives: weights rounded by largest remainders.
std::vector<std::size_t> mixture_counts(std::span<const double> weights, std::size_t windows);
/// One draw of the mixture: the first windows of that draw of every set, taking turns.
TokenWindows mixture_windows(std::span<const ComparedSet> sets, std::span<const double> weights, std::size_t draw,
                             std::size_t windows);

}  // namespace adze
