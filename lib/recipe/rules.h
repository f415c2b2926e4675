// The `rules` section of a recipe, read into RuleSpecs. Internal to the recipe parser.
#pragma once

#include <vector>

#include "recipe/recipe.h"

namespace adze {

/// Appends to recipe.rules. Names of schemes are checked against recipe.schemes, which must be read before.
void read_rules(const std::vector<Value>& items, Recipe& recipe, Diagnostics& problems);

/// Adds to recipe.warnings: schemes that nothing names, rules whose glob an earlier rule has.
void warn_about_unused(Recipe& recipe);

}  // namespace adze
