// Small recipes for tests, and what is wrong with them.
#pragma once

#include <sstream>
#include <string>
#include <vector>

#include "recipe/errors.h"
#include "recipe/recipe.h"

namespace adze::testing {

/// A recipe that is right up to `lines`, which replace the rule section and what follows.
inline std::string with(const std::string& lines) {
  return "adze: 1\ncalibration: { set: a.txt }\nschemes:\n  w4: { grid: int4 }\n" + lines;
}

inline const std::string kRule = "rules: [ { modules: \"**\", scheme: w4 } ]\n";

inline std::string errors_of(const std::string& text) {
  return recipe_error([&] { parse_recipe(text, "dir/r.yaml"); });
}

/// "line:column: message" of every problem, without the excerpts.
inline std::vector<std::string> problems_of(const std::string& text) {
  std::vector<std::string> problems;
  std::istringstream lines(errors_of(text));
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with("dir/r.yaml:")) problems.push_back(line.substr(11));
  return problems;
}

}  // namespace adze::testing
