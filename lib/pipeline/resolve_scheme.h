// A scheme of the recipe with its grid and solver made: names looked up in the registries, sparsity read, and whether
// the three go together. Every problem is reported with its place.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "recipe/recipe.h"
#include "solve/solver.h"

namespace adze {

struct ResolvedScheme {
  std::string name;
  std::shared_ptr<const Grid> grid;  ///< of floats where the scheme only prunes
  std::shared_ptr<const Solver> solver;
  std::optional<SparsityPattern> pattern = {};

  /// What a matrix of that shape is to become.
  Target target(Shape shape) const { return {shape, *grid, pattern ? &*pattern : nullptr}; }
};

/// What is null was reported.
ResolvedScheme resolve_scheme(const SchemeSpec& spec, Diagnostics& problems);

}  // namespace adze
