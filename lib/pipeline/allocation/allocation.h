// From a recipe that lets modules choose among schemes, and a budget, to one that names a scheme for each: `adze
// allocate`.
//
// Pass A: every option of every module is solved once against the statistics of the original model and kept in a
// SolutionStore, which gives its exact bytes and its loss J; a sensitivity measure makes losses of different layers
// comparable. The knapsack of allocate/knapsack.h then takes the least predicted loss within the budget. What the
// recipe has settled is solved and counted with it. Whole models are put together from the store and judged on
// calibration text: that fits predictions to what is real, and exchanges choices where sums mislead.
//
// Depth and width choose as well: a recipe's optional transforms make shapes of the model, each with statistics of its
// own, and the shape that is best within the budget wins (specification allocation.md, sections 6 and 7).
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "allocate/knapsack.h"
#include "base/progress.h"
#include "calibrate/calibration_set.h"
#include "calibrate/statistics_folder.h"
#include "pipeline/plan.h"
#include "pipeline/solution_store.h"
#include "sensitivity/measure.h"

namespace adze {

struct ModuleOption {
  std::string scheme;
  std::string format;
  std::uint64_t bytes = 0;  ///< in the store
  std::uint64_t cost = 0;   ///< in what the budget bounds, above the least of the module's options
  std::uint64_t multiplications = 0;
  double loss = 0;           ///< J
  double relative_loss = 0;  ///< J / tr(W H W^T)
  double predicted = 0;      ///< by the measure
  std::string solution;      ///< key in the store; empty: the fallback dtype, which is counted as losing nothing
};

struct ModuleChoice {
  std::string module;
  std::optional<std::size_t> block;  ///< nothing: outside of blocks
  std::size_t rule = 0;              ///< of the recipe
  bool chooses = true;               ///< false: the recipe has settled on its one option
  double coefficient = 1;            ///< of the measure, where it has one for the matrix
  std::vector<ModuleOption> options;
  std::size_t chosen = 0;

  const ModuleOption& option() const { return options[chosen]; }
};

struct AllocationRequest {
  std::filesystem::path statistics;  ///< of the model without transforms; empty: they are measured
  const MeasureInfo* measure = nullptr;
  std::size_t windows = 8;      ///< of the calibration set: runs of the model see these
  std::size_t evaluations = 8;  ///< of whole models, at most
};

struct PreparedAllocation {
  const Recipe* recipe = nullptr;
  const OpenedModel* model = nullptr;
  AllocationRequest request = {};
  std::string identity = {};  ///< of the model that is solved
  TokenWindows windows = {};
  std::vector<CompressionPlan> variants = {};        ///< k: every module takes its k-th option, where it has one
  std::vector<ModuleChoice> modules = {};            ///< that schemes solve; without losses
  std::vector<std::vector<std::size_t>> units = {};  ///< modules that choose alike
  std::uint64_t fixed = 0;                           ///< bytes, whatever is chosen
  std::optional<std::uint64_t> budget = {};          ///< bytes; nothing: the smallest that keeps kl
  std::uint64_t fixed_multiplications = 0;
  std::optional<std::uint64_t> multiplications = {};  ///< a second budget
  std::string of = {};                                ///< the export whose file is meant; empty: the store's tensors
  CostRange range = {};                               ///< of all that is possible, `fixed` included

  // What make_model() fills in.
  std::optional<StatisticsFolder> statistics = {};
  std::shared_ptr<const ModelWeights> weights = {};  ///< what transforms make of the model
  double base_loss = 0;                              ///< KL of that from the model, before anything is solved
};

/// The recipe with every choice of its optional transforms, without any of them first. Throws bad_recipe for more than
/// four.
std::vector<Recipe> shapes_of(const Recipe& recipe);
/// "drop-blocks, prune-ffn"; "as it is".
std::string shape_in_words(const Recipe& shape);

/// Throws usage for another name.
const MeasureInfo* parse_measure(std::string_view name);

/// Throws bad_recipe for what is wrong with a shape's transforms, schemes or exports, budgets aside.
void check_plan(const Recipe& shape, const OpenedModel& model);

/// Checks everything; reads text and touches no weight. recipe: without optional transforms. Throws bad_recipe for a
/// recipe without budget or choice, for groups that cannot agree, for a budget that is too small, with the smallest and
/// the largest possible size; bad_data for statistics of another model.
PreparedAllocation prepare_allocation(const Recipe& recipe, const OpenedModel& model, const AllocationRequest& request);

/// The model that is solved, its statistics, and what it loses before anything is solved. Those that have to be made go
/// to `folder`, from where another run takes them.
void make_model(PreparedAllocation& prepared, const std::filesystem::path& folder, Progress& progress);

/// What the budget bounds, of these choices, to the byte.
std::uint64_t planned_bytes(const PreparedAllocation& prepared, const std::vector<ModuleChoice>& modules);

/// A whole model, as predicted and as it was: put together from options that were solved with the original's inputs.
struct JudgedChoice {
  std::uint64_t cost = 0;
  double predicted = 0;
  double measured = 0, error = 0;  ///< mean KL on the windows, and its standard error
};

/// measured = exp(intercept) * predicted^slope, by least squares of logarithms (specification allocation.md, 1.7).
struct PredictionFit {
  double slope = 1, intercept = 0;
  double r2 = 1;
  std::size_t points = 0;

  double expected(double predicted) const;
};

struct AllocationResult {
  std::vector<ModuleChoice> modules;
  Allocation allocation;   ///< of the units; cost without `fixed`, losses with `base_loss`
  Front front;             ///< likewise
  std::uint64_t cost = 0;  ///< `fixed` included
  std::uint64_t multiplications = 0;
  std::optional<JudgedChoice> judged;  ///< the choice itself
  std::vector<JudgedChoice> judgements;
  std::optional<PredictionFit> fit;  ///< with three judgements or more
  std::size_t swaps = 0;             ///< exchanges after the knapsack
  bool tied = false;                 ///< embed_tokens is the head, too
};

/// After make_model().
AllocationResult allocate_modules(const PreparedAllocation& prepared, SolutionStore& store, Progress& progress);

/// Whether a shape's result is better than another's: the smaller one where KL is the budget, else the one of less KL,
/// measured where both were judged.
bool is_better(const Recipe& recipe, const AllocationResult& result, const AllocationResult& than);

/// The recipe with a rule for every module in place of the rules that left a choice, and without a budget; to lie at
/// `path`, from whose folder its relative paths start. Everything else is as it was.
std::string allocated_recipe(const Recipe& recipe, const AllocationResult& result, const std::filesystem::path& path);

}  // namespace adze
