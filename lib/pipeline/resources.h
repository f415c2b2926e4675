// Peak memory and temporary disk of a run, predicted from sizes alone. An estimate from above: what is counted is what
// is alive together at the widest moment, plus the program itself.
#pragma once

#include <cstdint>

#include "pipeline/plan.h"
#include "recipe/recipe.h"

namespace adze {

/// How a run keeps within its memory. None of it changes a bit of the result.
struct MemoryChoice {
  std::size_t batch_windows = 0;  ///< calibration windows held with their inputs; 0: as many as run well
  bool states_on_disk = false;    ///< hidden states in the work folder instead of memory
};

struct Resources {
  std::uint64_t peak_memory = 0;     ///< bytes
  std::uint64_t temporary_disk = 0;  ///< bytes: two generations of hidden states
};

/// While blocks, embedding and head are solved.
Resources predict_resources(const Recipe& recipe, const Architecture& architecture, const CompressionPlan& plan);

/// Bytes while `tokens` tokens are judged: both models' states of all windows, tables and blocks, each thread's logits.
std::uint64_t evaluation_memory(const Architecture& architecture, const CompressionPlan& plan, std::uint64_t tokens);

}  // namespace adze
