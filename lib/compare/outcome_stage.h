// Stage 3: whole models. The recipe is run with each draw of each set and of the proposed mixture, and every result is
// judged on every text against the original (specification evaluation.md, 10.4). A size sweep compresses with the first
// windows of the mixture's draws.
//
// What was judged is kept below the study's folder under a key of all that decides it, so that a study that was stopped
// goes on and one with more sets takes over what it shares. The compressed models themselves are removed.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "compare/compared_set.h"
#include "compare/mismatch.h"
#include "evaluate/reference_judge.h"
#include "pipeline/open_model.h"
#include "recipe/recipe.h"

namespace adze {

/// One compressed model on one text.
struct Outcome {
  double kl = 0;                               ///< mean KL of predictions from the original's
  double perplexity = 0, perplexity_base = 0;  ///< the latter of the original
  double same_top = 0;                         ///< share of positions
  std::vector<double> window_kl;
};

/// One source: a set, or the mixture; all its draws.
struct SourceOutcomes {
  std::string name;
  std::size_t windows = 0;                  ///< calibrated with
  std::vector<std::vector<Outcome>> draws;  ///< [draw][text]
};

struct SizePoint {
  std::size_t windows = 0;
  Spread mean;   ///< over draws, of the mean over texts
  Spread worst;  ///< of the largest
};

struct OutcomeStage {
  std::vector<std::string> texts;
  std::vector<SourceOutcomes> sources;  ///< the sets in order, then the mixture if there is one
  std::vector<SourceOutcomes> sizes;    ///< of the mixture, or of the only source asked for; fewest windows first

  /// Mean KL: rows sources (with the mixture), columns texts.
  Mismatch kl() const;
  std::vector<SizePoint> size_curve() const;
  /// Interval of the difference of mean KL of two sources over all texts, windows resampled within texts and draws
  /// resampled, the same windows for both; and the same on one text.
  Interval difference(std::size_t a, std::size_t b, std::optional<std::size_t> text = std::nullopt) const;
};

struct OutcomeRequest {
  const OpenedModel* model = nullptr;
  const Recipe* recipe = nullptr;
  std::filesystem::path folder;    ///< of the study
  Protocol protocol;               ///< of the judgement
  std::vector<double> mixture;     ///< weights; empty: no mixture
  std::vector<std::size_t> sizes;  ///< windows, each below those of the sets
};

/// Compresses and judges what is not judged yet. Throws as prepare_run and compress do.
OutcomeStage compare_outcomes(const OutcomeRequest& request, std::span<const ComparedSet> sets,
                              std::span<const JudgingText> texts, Progress& progress);

}  // namespace adze
