// Which tokens the linears of an expert are calibrated with: those that are sent there; where they are too few for its
// H to have full rank, others of the layer with them. As a token counts the same wherever it comes from, that is the
// shrinkage of specification allocation.md, 5.1,
//
//   H <- (n H_routed + m H_others) / (n + m),   m = 4 inputs,
//
// H_* mean moments, for n < 4 inputs routed tokens; where the layer has fewer others, m is as many as there are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "recipe/expert_inputs.h"

namespace adze {

/// Tokens per input below which others stand in.
inline constexpr std::size_t kExpertTokensPerInput = 4;

/// Rows of all windows, ascending.
struct ExpertTokens {
  std::vector<std::uint32_t> rows;
  std::size_t borrowed = 0;  ///< of them, those that are sent elsewhere
};

/// routed: rows that are sent to the expert, ascending; rows: of the layer. Others are taken at even distances.
ExpertTokens tokens_of_expert(std::vector<std::uint32_t> routed, std::size_t rows, std::size_t inputs,
                              ExpertInputs mode);

}  // namespace adze
