// What lies outside blocks: embedding, positions, final norm and head are solved or converted when the blocks are done.
#pragma once

#include <vector>

#include "model/compressed_store.h"
#include "pipeline/block_step.h"

namespace adze {

struct OuterOutcome {
  OuterTensors made;
  std::vector<TensorRecord> tensors;
};

/// True when a scheme solves the head, or the table that is both: then the moment of its input is wanted.
bool solves_head(const CompressionPlan& plan, const Architecture& architecture);

/// head_moment: H of the head's input, [hidden x hidden]; empty: none. A tied table is solved with it; an untied
/// embedding has none. store: as solve_stage takes it.
OuterOutcome compress_outer(const CompressionPlan& plan, const ModelWeights& model, ConstViewD head_moment,
                            SolutionStore* store = nullptr);

}  // namespace adze
