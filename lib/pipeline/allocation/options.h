// Pass A of an allocation: every option solved, or found in the store, and what it is predicted to cost. Internal to
// pipeline/allocation.
#pragma once

#include <vector>

#include "pipeline/allocation/allocation.h"

namespace adze {

/// The prepared modules with losses, predictions and keys. Blocks in order, one in memory with its options; what a
/// measure has found before is taken from the store.
std::vector<ModuleChoice> measure_options(const PreparedAllocation& prepared, SolutionStore& store, Progress& progress);

/// A key of numbers that depend on the whole original model, on its statistics and on the windows.
std::string number_key(const PreparedAllocation& prepared, const std::string& what);

/// How calibration windows are judged.
Protocol protocol_of(const PreparedAllocation& prepared);

}  // namespace adze
