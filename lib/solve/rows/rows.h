// GPTQ with a factor of its own for each row: pruned weights cannot make up for anything, so the columns that can are
// different in every row, and only H_KK of the kept columns K says what a rounding error costs (specification 7.4). The
// factor of the whole H, which SparseGPT shares among all rows, counts on columns that are gone.
//
// Exact and costly: |K|^3 / 3 operations a row. Meant for inputs of up to a few thousand columns.
#pragma once

#include "base/matrix.h"
#include "grid/quantized_tensor.h"

namespace adze {

/// Rounds the rows of an encoding that prunes, with error feedback among the kept columns in their stored order.
/// weights: [out x in], restored (solve/restore); hessian: damped [in x in]. fixed_scales: side data are fitted before;
/// else each unit's, when its first column is reached. False when a row's H_KK could not be factored; its codes are
/// then nearest ones.
bool round_rows(ConstViewF weights, const MatrixF& hessian, ScaleRule scale_rule, bool fixed_scales,
                Encoding& encoding);

/// Operations that round_rows takes, about, when half of the weights are kept.
double row_operations(std::size_t rows, std::size_t cols);

}  // namespace adze
