// How often models choose the right answer, and how many answers compression has changed, as a table for people.
#pragma once

#include <span>
#include <string>

#include "evaluate/choices.h"

namespace adze {

struct NamedChoices {
  std::string name;
  ChoiceResult result;
};

/// For each model and rule of scoring: accuracy in percent with its 95 % interval and, with a reference (whose rows
/// come first, under `reference`), answers changed in each direction and McNemar's p. Models share questions and
/// reference.
std::string choice_table(std::span<const NamedChoices> models, const std::string& reference);

}  // namespace adze
