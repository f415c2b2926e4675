// The `schemes` section of a recipe, read into SchemeSpecs. Internal to the recipe parser.
#pragma once

#include <vector>

#include "recipe/recipe.h"

namespace adze {

/// Appends to recipe.schemes; also the broken ones, so that rules naming them are not reported again.
void read_schemes(const std::vector<MapEntry>& entries, Recipe& recipe, Diagnostics& problems);

}  // namespace adze
