// The levels of GGUF's non-uniform types, ascending.
#pragma once

#include <array>

namespace adze {

/// IQ4_NL and IQ4_XS (gguf.md 5.12). No level is zero.
inline constexpr std::array<float, 16> kUnevenLevels{-127, -104, -83, -65, -49, -35, -22, -10,
                                                     1,    13,   25,  38,  53,  69,  89,  113};

/// MXFP4 (gguf.md 5.16): E2M1 with a zero of either sign, so that every stored code has its own index.
inline constexpr std::array<float, 16> kE2M1Levels{-6,   -4,   -3, -2,   -1.5f, -1, -0.5f, -0.0f,
                                                   0.0f, 0.5f, 1,  1.5f, 2,     3,  4,     6};

}  // namespace adze
