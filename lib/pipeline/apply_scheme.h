// One scheme on a model, with statistics that were measured before: adze quantize and adze prune. No text is read and
// nothing runs through the model: block by block, H comes from a folder of statistics (calibrate/statistics_folder.h).
// The result is what adze compress makes of the same windows with `propagate: original`, byte for byte.
//
// Refused: solvers that need statistics without them, statistics of a model of another shape. Saved statistics know of
// no drift, so nothing is shifted (solve/gptq/shift.h).
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "calibrate/statistics_folder.h"
#include "pipeline/compress.h"
#include "pipeline/solution_store.h"
#include "recipe/scheme_arguments.h"

namespace adze {

/// A scheme that has passed every check: what --dry-run shows. Refers to the recipe and the model.
struct PreparedScheme {
  bool data_free = false;                      ///< inputs are taken from the weights (calibrate/surrogate.h)
  bool reconstructs = false;                   ///< and drift too: shift was asked for by name
  PreparedRun run;                             ///< without windows
  std::optional<StatisticsFolder> statistics;  ///< nothing: inputs are weighed equally
  std::string remark;                          ///< which inputs the losses are of, for manifest and report
  /// What is solved: the model, or what the recipe's transforms make of it.
  std::shared_ptr<const ModelWeights> weights;
  SolutionStore* store = nullptr;  ///< of what was solved before; nullptr: there is none
};

/// recipe_of(), whose complaints are about a command line: throws usage.
Recipe scheme_recipe(const std::vector<SchemeArgument>& arguments);

/// What is known of inputs: statistics that lie somewhere, what weights alone say (data_free), or nothing.
struct DataFree {};
using KnownInputs = std::variant<std::monostate, std::filesystem::path, DataFree>;

/// Checks everything; touches no weight and writes nothing. recipe: of scheme_recipe(). Throws usage for a scheme that
/// cannot be or does not fit the model, and when its solver needs statistics that are not given; missing_input and
/// bad_data when they are not there, not whole or of another model.
PreparedScheme prepare_scheme(const Recipe& recipe, const OpenedModel& model, const KnownInputs& inputs = {});

/// Makes `out` whole or not at all (pipeline/whole_folder.h): store/, manifest.json and reports. One block, one H and
/// the solver's scratch are in memory.
CompressResult apply_scheme(const PreparedScheme& scheme, const std::filesystem::path& out, bool overwrite,
                            Progress& progress);

}  // namespace adze
