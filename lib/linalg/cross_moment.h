// Second moments between two matrices of activations, added up over tokens.
#pragma once

#include <cstddef>

#include "base/matrix.h"

namespace adze {

/// c += a^T b over all rows (tokens), for a: [tokens x n], b: [tokens x m], c: [n x m]. Single-precision products over
/// slices of `slice_tokens` rows, added up in double in the order of slices; bits do not depend on the threads.
void add_cross_moment(ConstViewF a, ConstViewF b, std::size_t slice_tokens, ViewD c);

}  // namespace adze
