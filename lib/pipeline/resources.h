// Peak memory and temporary disk of a run, predicted from sizes alone before any work: a run is a sequence of phases,
// each the sum of what is alive together in it, and the peak is the largest. What a phase holds is known exactly; what
// the program itself takes (libraries, BLAS buffers, what malloc keeps) is measured (docs/performance.md).
//
// A limit is met by choices that change no bit of the result: smaller batches of calibration windows, hidden states on
// disk, fewer evaluation windows at once. What does not fit then is refused, with what takes how much.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "pipeline/plan.h"
#include "recipe/recipe.h"

namespace adze {

/// How a run keeps within its memory. None of it changes a bit of the result.
struct MemoryChoice {
  std::size_t batch_windows = 0;       ///< calibration windows held with their inputs; 0: as many as run well
  bool states_on_disk = false;         ///< hidden states in the work folder instead of memory
  std::size_t evaluation_windows = 0;  ///< judged at once; 0: all
};

struct MemoryPart {
  std::string what;
  std::uint64_t bytes = 0;
};

/// What is alive together at the widest moment of one phase.
struct MemoryPhase {
  std::string name;  ///< "solving block 3, down"
  std::vector<MemoryPart> parts;

  std::uint64_t bytes() const;
};

struct Resources {
  MemoryChoice choice;
  MemoryPhase peak;                  ///< the largest phase
  std::uint64_t peak_memory = 0;     ///< bytes
  std::uint64_t temporary_disk = 0;  ///< bytes: two generations of hidden states
};

/// Sizes of the evaluation; tokens 0: there is none.
struct EvaluationSize {
  std::size_t windows = 0;
  std::size_t tokens = 0;  ///< per window
  bool reference = true;   ///< two models are judged side by side
};

/// Of the choice given.
Resources predict_resources(const Recipe& recipe, const Architecture& architecture, const CompressionPlan& plan,
                            const MemoryChoice& choice = {}, const EvaluationSize& evaluation = {});

/// The most convenient choice that keeps within `limit` bytes. Throws out_of_memory, with the parts of the peak and
/// what the least choice would take, when none does.
Resources choose_resources(const Recipe& recipe, const Architecture& architecture, const CompressionPlan& plan,
                           const EvaluationSize& evaluation, std::optional<std::uint64_t> limit);

/// Models judged side by side: what each stores outside of blocks, and its largest block, in bytes.
struct JudgedSize {
  std::uint64_t outside = 0;
  std::uint64_t largest_block = 0;
};
/// What a model keeps loaded: a compressed one its tables, a checkpoint one of them at a time; sizes as of block 0.
JudgedSize judged_size(const ModelWeights& model);
/// Windows to judge at once within `limit`. Throws out_of_memory as choose_resources does. models: one or two.
Resources choose_evaluation(const Architecture& architecture, const std::vector<JudgedSize>& models,
                            const EvaluationSize& evaluation, std::optional<std::uint64_t> limit);

/// "program 41.00 MiB, hidden states 32.00 MiB": parts of at least 1 MiB, the largest first.
std::string parts_in_words(const MemoryPhase& phase);

}  // namespace adze
