// Is one compressed model better than another? Both are judged on the same windows against the same original, so the
// differences of windows are resampled: they vary far less than the windows. A difference is stated with its interval,
// a ranking with the share of resamples that agree with it.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "evaluate/result.h"

namespace adze {

inline constexpr double kEquivalenceMargin = 0.005;  ///< nats of loss, which few applications notice

/// The mean over windows of a less that of b; the smaller is better.
struct PairedDifference {
  double value = 0;
  std::optional<Interval> interval_95;  ///< as all of these but value: nothing with a single window
  std::optional<double> a_better;       ///< share of resamples in which a is smaller; half of the ties
  std::optional<double> p;              ///< two-sided, 2 min(a_better, 1 - a_better), at least 1 / resamples
  std::optional<double> p_holm;         ///< adjusted for all pairs compared (Holm 1979)
  bool equivalent = false;              ///< two one-sided tests at 5 %: the 90 % interval lies within +-margin
  double windows_needed = 0;            ///< to see a difference of `margin` with a power of 80 % at 5 %
};

struct ModelComparison {
  std::size_t a = 0, b = 0;            ///< places among the models
  PairedDifference loss;               ///< negative log-likelihood
  std::optional<PairedDifference> kl;  ///< where there is a reference
};

/// (1.96 + 0.84)^2 deviation^2 / effect^2, rounded up; deviation: of the windows' differences. effect > 0.
double windows_needed(double effect, double deviation);

/// Holm's step-down adjustment: p times the number of hypotheses that are left, never falling, at most 1.
std::vector<double> holm_adjusted(std::span<const double> p);

/// Every pair of models, in order. Throws usage when they were judged by different protocols, on different texts or
/// against different references.
std::vector<ModelComparison> compare_models(std::span<const EvaluationResult> models,
                                            double margin = kEquivalenceMargin);

nlohmann::ordered_json to_json(const ModelComparison& comparison, std::span<const std::string> names);

}  // namespace adze
