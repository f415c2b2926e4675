// A comparison of calibration sets from question to answer: which set, how much of it, and whether the difference is
// larger than the noise of drawing (specification evaluation.md, section 10). Three stages, each useful alone and each
// cheaper than the next: second moments, layers, whole models.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/progress.h"
#include "compare/compared_set.h"
#include "compare/mixture.h"
#include "compare/moment_stage.h"
#include "compare/outcome_stage.h"
#include "compare/regret_stage.h"
#include "pipeline/open_model.h"
#include "recipe/recipe.h"

namespace adze {

struct StudyRequest {
  std::vector<NamedPath> sets, texts;
  DrawRule rule;
  int stages = 1;                  ///< how many: 1 to 3
  std::size_t blocks = 8;          ///< that stages 1 and 2 look at, at most
  std::vector<std::size_t> sizes;  ///< of the sweep of stage 3, in windows; empty: halves down to 8
  bool sweep = true;
  std::size_t text_windows = 64;  ///< of each judging text, at most
  std::string protocol = "lcpp-512";
  MixGoal mix = MixGoal::worst;
  double least_difference = 0.002;  ///< KL that the user cares about
  const Recipe* recipe = nullptr;   ///< for stages 2 and 3
  std::filesystem::path out;
};

/// Everything read and checked; nothing is measured yet.
struct PreparedStudy {
  StudyRequest request;
  const OpenedModel* model = nullptr;
  std::vector<ComparedSet> sets;
  std::vector<JudgingText> texts;
  std::vector<std::size_t> sizes;
  std::size_t draws = 1;
  std::vector<std::string> warnings;
};

/// Throws usage for fewer than two sets, names that come twice, stages without what they need; bad_data for sets too
/// short for their draws or that contain a judging text; bad_recipe for a recipe that does not fit.
PreparedStudy prepare_study(StudyRequest request, const OpenedModel& model);

/// How alike stage 1's order of sets and a later stage's are.
struct Agreement {
  std::string measure;  ///< "expected regret", "frobenius" ...
  double tau = 0;       ///< Kendall's tau-b over pairs (set, judge) within judges, averaged
};

/// The smallest calibration that is as good as the largest, as far as can be told.
struct EnoughWindows {
  std::optional<std::size_t> windows;  ///< nothing: the curve still falls, or no sweep was made
  bool still_falling = false;
  bool worse_with_more = false;
};
EnoughWindows enough_windows(std::span<const SizePoint> curve, double least_difference);

struct Study {
  std::vector<TokenProfile> tokens;          ///< per set; of saved statistics zero
  MatrixD token_divergence, token_coverage;  ///< [sets x sets]
  MomentStage moments;
  std::optional<MixtureProposal> mixture;
  std::optional<RegretStage> regret;
  std::optional<OutcomeStage> outcomes;
  std::vector<Agreement> with_regret, with_outcomes;
  EnoughWindows enough;
  std::vector<std::string> warnings;
  double seconds[3] = {0, 0, 0};  ///< per stage
};

Study run_study(const PreparedStudy& prepared, Progress& progress);

}  // namespace adze
