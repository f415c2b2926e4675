// Domains of an evaluation: texts with names. They come from a text set whose texts each have a `domain`, from several
// files, or from both; in any other case the whole text is one.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "recipe/text_set.h"

namespace adze {

struct Domain {
  std::string name;
  TextSet texts;
};

/// arguments: FILE, or NAME=FILE where no file of the whole name exists; FILE as load_text_set() reads it. A set with
/// domains is cut into them, in the order in which they first appear; one without is one, called NAME, or of several
/// arguments by the file's name without its ending, or else by its path. Throws usage for a name that is empty or
/// occurs twice, and as load_text_set() does. Not empty.
std::vector<Domain> load_domains(std::span<const std::string> arguments);

}  // namespace adze
