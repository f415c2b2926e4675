// A recipe of one scheme and one rule, made of the options of a command line instead of a file. It goes through the
// same readers, grids and solvers as a file's, and messages show the command line with a caret below the option:
//
//   unknown grid 'gguf/q4_kk'; did you mean 'gguf/q4_k'?
//       --grid gguf/q4_kk --solver gptq --modules layers.**
//              ^
//
// There is no text to calibrate with and none to judge by: the recipe's calibration has no windows, and inputs are
// those of the original model (`propagate: original`).
#pragma once

#include <string>
#include <vector>

#include "recipe/recipe.h"

namespace adze {

/// One key of the scheme, or `modules` or `fallback` of the rule.
struct SchemeArgument {
  std::string option;  ///< as it is typed: "--grid", or "--option" of `--option damp=0.1`
  std::string key;     ///< "grid", "damp"
  std::string value;
  bool is_text = false;  ///< text whatever it looks like, as if quoted in a file: sparsity 50 is no number
};

/// Throws usage for what is no KEY=VALUE.
SchemeArgument parse_scheme_option(const std::string& assignment);

/// Arguments come in the order in which messages are to show them. Throws bad_recipe with every problem in one message:
/// values of a wrong kind, a key that comes twice. As with a file, grids, solvers and their options are not known here.
Recipe recipe_of(const std::vector<SchemeArgument>& arguments);

}  // namespace adze
