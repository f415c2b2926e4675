// Channel-wise bits: every row of a matrix (an output channel) has a width of its own, 0 included, and the matrix takes
// what the scheme's grid would (QVLA; specification: allocation, 4.4).
//
// Rows are independent given H. So the matrix is solved once in each width by another solver, each row's loss
// (w - q) H (w - q)^T is known exactly, and which row takes which width is a knapsack in the matrix' bytes
// (allocate/knapsack.h): the least J that any such choice has. QVLA takes widths by a greedy on absolute losses and
// counts channels; slopes of the hull and bytes are exact.
#pragma once

#include <memory>

#include "recipe/reader.h"
#include "solve/solver.h"

namespace adze {

/// Options: widths (text: "0 2 3 4 6"), bits (a weight, of the whole matrix; the grid's own otherwise), base (gptq),
/// and those of the base.
std::unique_ptr<Solver> configure_mixed_rows(MapReader& options);

}  // namespace adze
