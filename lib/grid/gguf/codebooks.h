// The levels of GGUF's non-uniform types, ascending.
#pragma once

#include <array>

namespace adze {

/// IQ4_NL and IQ4_XS (gguf.md 5.12). No level is zero.
inline constexpr std::array<float, 16> kUnevenLevels{-127, -104, -83, -65, -49, -35, -22, -10,
                                                     1,    13,   25,  38,  53,  69,  89,  113};

}  // namespace adze
