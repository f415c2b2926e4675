// Triangles of symmetric matrices copied across the diagonal, in squares that fit the first cache: row by row, every
// entry of a column is a cache line of its own.
#pragma once

#include "base/matrix.h"

namespace adze {

/// Copies what lies above the diagonal of h [n x n] to below it.
void mirror_upper(ViewD h);
/// Copies what lies below the diagonal of h [n x n] to above it.
void mirror_lower(ViewD h);

}  // namespace adze
