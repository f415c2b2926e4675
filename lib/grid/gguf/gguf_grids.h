// GGUF's block grids, byte for byte as ggml stores them. Each is affine inside its step groups or has a codebook, so
// one interface serves solvers; the layout of a block is what differs.
#pragma once

#include "grid/grid.h"

namespace adze {

// Blocks of 32 with one f16 scale; q4_1 and q5_1 with an f16 offset.
std::shared_ptr<const Grid> make_q4_0_grid();  ///< codes -8 .. 7, 18 bytes
std::shared_ptr<const Grid> make_q4_1_grid();  ///< codes 0 .. 15, 20 bytes
std::shared_ptr<const Grid> make_q5_0_grid();  ///< codes -16 .. 15, 22 bytes
std::shared_ptr<const Grid> make_q5_1_grid();  ///< codes 0 .. 31, 24 bytes
std::shared_ptr<const Grid> make_q8_0_grid();  ///< codes -127 .. 127, 34 bytes

// Super-blocks of 256 with integer scales and minima under two f16 scales.
std::shared_ptr<const Grid> make_q2_k_grid();  ///< 16 groups, codes 0 .. 3, 84 bytes
std::shared_ptr<const Grid> make_q4_k_grid();  ///< 8 groups, codes 0 .. 15, 144 bytes
std::shared_ptr<const Grid> make_q5_k_grid();  ///< 8 groups, codes 0 .. 31, 176 bytes

// Super-blocks of 256 with signed integer scales under one f16 scale.
std::shared_ptr<const Grid> make_q3_k_grid();    ///< 16 groups, codes -4 .. 3, 110 bytes
std::shared_ptr<const Grid> make_q6_k_grid();    ///< 16 groups, codes -32 .. 31, 210 bytes
std::shared_ptr<const Grid> make_iq4_xs_grid();  ///< 8 groups, 16 uneven levels, 136 bytes

// Blocks of 32 with one scale and 16 uneven levels.
std::shared_ptr<const Grid> make_iq4_nl_grid();  ///< f16 scale, 18 bytes
std::shared_ptr<const Grid> make_mxfp4_grid();   ///< scale a power of two, levels of E2M1, 17 bytes

// Blocks of 256 with one f16 scale, codes -1 .. 1.
std::shared_ptr<const Grid> make_tq1_0_grid();  ///< five trits a byte, 54 bytes
std::shared_ptr<const Grid> make_tq2_0_grid();  ///< two bits a code, 66 bytes

}  // namespace adze
