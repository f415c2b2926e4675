// From a recipe that lets modules choose among schemes, and a budget, to one that names a scheme for each: `adze
// allocate`.
//
// Every option of every module is solved once against the statistics of the original model, which gives its exact bytes
// and its loss J. Losses of different layers are made comparable by a measure; the knapsack of allocate/knapsack.h then
// takes the least predicted loss within the budget. What is not left to choose is counted with it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "allocate/knapsack.h"
#include "base/progress.h"
#include "calibrate/calibration_set.h"
#include "calibrate/statistics_folder.h"
#include "pipeline/plan.h"

namespace adze {

/// What the loss of an option is taken to be.
enum class SensitivityMeasure : std::uint8_t {
  kl,        ///< J / tr(W H W^T), times what noise of that relative size costs in KL at the end (one run per module)
  relative,  ///< J / tr(W H W^T)
  loss,      ///< J
};
std::string_view name_of(SensitivityMeasure measure);
/// Throws usage for another name.
SensitivityMeasure parse_measure(std::string_view name);

struct ModuleOption {
  std::string scheme;
  std::string format;
  std::uint64_t bytes = 0;   ///< in the store
  std::uint64_t cost = 0;    ///< in what the budget bounds
  double relative_loss = 0;  ///< J / tr(W H W^T)
  double predicted = 0;      ///< by the measure
};

struct ModuleChoice {
  std::string module;
  double coefficient = 1;  ///< of relative losses; kl: KL per relative loss
  std::vector<ModuleOption> options;
  std::size_t chosen = 0;

  const ModuleOption& option() const { return options[chosen]; }
};

struct PreparedAllocation {
  const Recipe* recipe = nullptr;
  const OpenedModel* model = nullptr;
  StatisticsFolder statistics;
  SensitivityMeasure measure;
  TokenWindows windows;                   ///< of the calibration set, for the measure kl
  std::vector<CompressionPlan> variants;  ///< k: every module takes its k-th option, where it has one
  std::vector<ModuleChoice> modules;      ///< without losses
  std::uint64_t fixed = 0;                ///< of the budget, whatever is chosen
  std::uint64_t budget = 0;               ///< bytes
  std::string of;                         ///< the export whose file the budget bounds; empty: the store's tensors
  CostRange range;                        ///< of all that is possible, `fixed` included
};

/// Checks everything; reads text and touches no weight. `windows`: how many of the calibration set's the measure kl
/// runs. Throws bad_recipe for a recipe without budget or choice, for choices outside the blocks, and for a budget that
/// is too small, with the smallest and the largest possible size; bad_data for statistics of another model.
PreparedAllocation prepare_allocation(const Recipe& recipe, const OpenedModel& model,
                                      const std::filesystem::path& statistics, SensitivityMeasure measure,
                                      std::size_t windows);

struct AllocationResult {
  std::vector<ModuleChoice> modules;
  Allocation allocation;          ///< `fixed` not included
  std::vector<FrontPoint> front;  ///< likewise
  std::uint64_t cost = 0;         ///< `fixed` included
};

AllocationResult allocate_modules(const PreparedAllocation& prepared, Progress& progress);

/// The recipe with a rule for every module in place of the rules that left a choice, and without a budget; to lie at
/// `path`, from whose folder its relative paths start. Everything else is as it was.
std::string allocated_recipe(const Recipe& recipe, const AllocationResult& result, const std::filesystem::path& path);

}  // namespace adze
