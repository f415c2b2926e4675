// GGUF's block grids, byte for byte as ggml stores them. Each is affine inside its step groups, so one interface serves
// solvers; the layout of a block is what differs.
#pragma once

#include "grid/grid.h"

namespace adze {

/// Q8_0: blocks of 32, one f16 scale, codes -127 .. 127. 34 bytes.
std::shared_ptr<const Grid> make_q8_0_grid();
/// Q4_0: blocks of 32, one f16 scale of either sign, codes -8 .. 7. 18 bytes.
std::shared_ptr<const Grid> make_q4_0_grid();
/// Q4_K: super-blocks of 256 = 8 groups of 32 with 6-bit scales and minima under two f16 scales. 144 bytes.
std::shared_ptr<const Grid> make_q4_k_grid();

}  // namespace adze
