// What was lost of every matrix, and how far from the least that is possible, as a table for people.
#pragma once

#include <span>
#include <string>

#include "evaluate/layers.h"

namespace adze {

/// matrix, format, bits per weight, error of the output in percent, limit, bits above it, loss over the limit's, bits
/// above the structured limit; and a last line for all of them. Dashes where nothing was lost.
std::string layer_table(std::span<const LayerResult> layers);

}  // namespace adze
