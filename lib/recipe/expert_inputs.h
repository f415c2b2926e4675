// What the experts of a mixture are calibrated with, as recipes and options say it.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "recipe/reader.h"

namespace adze {

enum class ExpertInputs : std::uint8_t {
  routed,  ///< the tokens that are sent there, and others where they are few (calibrate/expert_tokens.h)
  all,     ///< every token of the layer, for every expert
};

inline constexpr std::array kExpertInputs{Named<ExpertInputs>{"routed", ExpertInputs::routed},
                                          Named<ExpertInputs>{"all", ExpertInputs::all}};

inline std::string_view name_of(ExpertInputs mode) { return kExpertInputs[static_cast<std::size_t>(mode)].name; }

}  // namespace adze
