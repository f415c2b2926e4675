// What loaders of models promise: no value of a matrix is NaN or infinite.
#pragma once

#include "grid/compressed_tensor.h"

namespace adze {

/// Throws bad_data, naming the first other value and its place, row by row. Decodes some rows at a time, in parallel.
void require_finite(const CompressedTensor& tensor);

}  // namespace adze
