// Statistics of a folder for people and programs: one line per input.
#pragma once

#include <span>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "calibrate/statistics_folder.h"

namespace adze {

/// block, input, inputs, tokens, trace, mean diagonal, dead inputs, max |x|.
std::string statistics_table(std::span<const InputSummary> inputs);
nlohmann::ordered_json statistics_json(std::span<const InputSummary> inputs);

}  // namespace adze
