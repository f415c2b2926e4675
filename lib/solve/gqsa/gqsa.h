// GQSA (group-structured sparsity with quantization; specification, section 9.2): groups of consecutive inputs of a row
// are kept or pruned as one, aligned with the groups that share a scale, so that a kernel skips whole groups. In the
// training-free construction: choose the groups, restore what is left, round with error feedback among the kept
// columns, then polish codes and scales, which stands in for the tuning of the paper.
//
// Groups go by their weights times the norms of their inputs (as in Wanda, summed), or by what zeroing one costs when
// all other weights make up for it. The latter is exact for one group and misleads for many: of inputs that could
// replace each other each one is cheap, all together are not.
#pragma once

#include <memory>

#include "solve/solver.h"

namespace adze {

/// Options: those of solve/masks/masked_solver.h; saliency (inputs, loss): the first or the second score; balance (row,
/// matrix): where groups compete.
std::unique_ptr<Solver> configure_gqsa(MapReader& options);

}  // namespace adze
