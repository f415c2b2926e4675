// Shapes of a model that compete within one budget: those that a recipe's optional transforms make (allocation.h).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "pipeline/allocation/allocation.h"

namespace adze {

/// A shape of the model that competes: what it was prepared for, and what came of it.
struct ModelShape {
  Recipe recipe;
  std::string name;
  std::optional<PreparedAllocation> prepared = {};
  std::optional<AllocationResult> result = {};
  std::string refusal = {};  ///< why it is out of the race
};

/// All shapes of the recipe, prepared; one that cannot keep the budget says why, unless it is the only one. Throws as
/// shapes_of() and prepare_allocation(), and usage where they could not be compared.
std::vector<ModelShape> prepare_shapes(const Recipe& recipe, const OpenedModel& model,
                                       const AllocationRequest& request);

/// Allocates each that is in the race. Throws likewise.
void run_shapes(std::vector<ModelShape>& shapes, SolutionStore& store, Progress& progress);

/// The best of those that are in the race. Throws bad_recipe, with what is wrong with the first, where none is.
const ModelShape& best_of(const std::vector<ModelShape>& shapes);

}  // namespace adze
