// What narrowing transforms share: rows of a linear taken out, and results stored as f32.
#pragma once

#include <cstddef>
#include <span>

#include "base/matrix.h"
#include "model/weights.h"

namespace adze {

TensorPtr dense_f32(const MatrixF& weight);

/// Keeps these rows of weight and bias, in this order, as f32.
void keep_rows(std::span<const std::size_t> rows, Linear& linear);

}  // namespace adze
