// Shapes of a model: which of a recipe's optional transforms are done, and the model that they make.
#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "calibrate/calibrate.h"
#include "pipeline/allocation/allocation.h"
#include "pipeline/allocation/options.h"
#include "pipeline/transform_step.h"

namespace adze {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMostOptional = 4;

/// Statistics in `folder`, whole: made there unless an earlier run has left them.
StatisticsFolder statistics_in(const fs::path& folder, const PreparedAllocation& prepared, const TokenWindows& windows,
                               Progress& progress) {
  const StatisticsInfo wanted = describe_statistics(prepared.weights->architecture(), prepared.model->name, windows,
                                                    prepared.recipe->calibration.experts);
  if (is_statistics_folder(folder)) {
    try {
      StatisticsFolder found(folder);
      if (found.info().calibration == wanted.calibration) return found;
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::bad_data && error.kind() != ErrorKind::missing_input) throw;
    }
  }
  calibrate(*prepared.weights, prepared.model->name, windows,
            {.out = folder, .experts = prepared.recipe->calibration.experts}, progress);
  return StatisticsFolder(folder);
}

}  // namespace

std::vector<Recipe> shapes_of(const Recipe& recipe) {
  std::vector<std::size_t> optional;
  for (std::size_t t = 0; t < recipe.transforms.size(); ++t)
    if (recipe.transforms[t].optional) optional.push_back(t);
  if (optional.size() > kMostOptional)
    fail(ErrorKind::bad_recipe, "{}: {} optional transforms make {} models to compare; {} are the most", recipe.origin,
         optional.size(), std::uint64_t{1} << std::min<std::size_t>(optional.size(), 63), kMostOptional);
  std::vector<Recipe> shapes;
  for (std::size_t taken = 0; taken < std::size_t{1} << optional.size(); ++taken) {
    Recipe& shape = shapes.emplace_back(recipe);
    shape.transforms.clear();
    for (std::size_t t = 0; t < recipe.transforms.size(); ++t) {
      const auto at = std::ranges::find(optional, t);
      if (at != optional.end() && ((taken >> (at - optional.begin())) & 1) == 0) continue;
      shape.transforms.push_back(recipe.transforms[t]);
      shape.transforms.back().optional = false;
    }
  }
  return shapes;
}

std::string shape_in_words(const Recipe& shape) {
  if (shape.transforms.empty()) return "as it is";
  std::string kinds;
  for (const TransformSpec& transform : shape.transforms) kinds += (kinds.empty() ? "" : ", ") + transform.kind;
  return kinds;
}

void make_model(PreparedAllocation& prepared, const fs::path& folder, Progress& progress) {
  if (prepared.statistics) return;  // of the model as it is
  const CalibrationSpec& spec = prepared.recipe->calibration;
  const TokenWindows windows =
      load_windows(spec.set, prepared.model->require_tokenizer(), {spec.windows, spec.tokens, spec.seed});
  Hasher hasher;  // another text, another folder
  hasher.add(prepared.identity + windows.hash());
  const fs::path place = folder / hasher.hex();
  make_folder(place);
  const CompressionPlan& plan = prepared.variants.front();
  if (!prepared.weights) {
    const StatesLayout layout{windows.count(), windows.tokens, plan.architecture.hidden, batch_windows(windows.tokens),
                              false};
    prepared.weights = transformed_model(plan, *prepared.model, windows, layout, place, progress);
  }
  prepared.statistics = statistics_in(place / "statistics", prepared, windows, progress);
  if (plan.transforms.empty() || !prepared.request.measure->in_kl) return;
  ReferenceJudge judge(*prepared.model->weights, prepared.windows.ids, std::nullopt, protocol_of(prepared));
  prepared.base_loss = std::max(0.0, judge.judge(*prepared.weights, Inference::point).reference->kl_mean);
}

}  // namespace adze
