// RoPE as config.json states it: `rope_theta` and `rope_scaling` of Transformers 4, `rope_parameters` of Transformers
// 5, which may hold one set for layers with a window and one for the others.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "model/architecture.h"
#include "model/config_object.h"

namespace adze {

/// Kinds of attention in `layer_types`, and of sets in `rope_parameters`.
inline constexpr std::string_view kFullAttention = "full_attention", kSlidingAttention = "sliding_attention";

struct RopePair {
  RopeSpec rope;
  std::optional<RopeSpec> sliding;  ///< of layers with a window, where it is another
  double rotated = 1;               ///< part of a head, of both
};

/// Throws bad_data for a kind that the forward pass does not have.
RopePair parse_rope(const ConfigObject& config, const FamilyInfo& family, std::size_t max_positions);

/// Throws bad_data for numbers that are out of range. pairs: of one head.
void check_rope(const RopeSpec& rope, std::size_t pairs, std::string_view origin);

/// What config.json says of an architecture whose heads are rotated in part: Transformers' rule makes rotary_dim of it.
double partial_rotary_factor(const Architecture& architecture);

/// The `rope_scaling` object of config.json that parse_rope() reads as the RoPE of the architecture; null for a plain
/// one.
nlohmann::ordered_json rope_scaling(const Architecture& architecture);

}  // namespace adze
