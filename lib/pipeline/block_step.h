// One block of a run: measure its stages, solve them, and leave the states as the next block's input.
#pragma once

#include <filesystem>
#include <functional>
#include <vector>

#include "base/progress.h"
#include "calibrate/block_pass.h"
#include "pipeline/ledger.h"
#include "pipeline/plan.h"
#include "pipeline/solution_store.h"

namespace adze {

struct BlockJob {
  const CompressionPlan& plan;
  const Forward& forward;
  PropagateMode propagate = PropagateMode::compressed;
  StageMode stages = StageMode::staged;
  ExpertInputs experts = ExpertInputs::routed;  ///< what experts are calibrated with
  std::filesystem::path scratch_states;         ///< for a second stream of states, when states lie on disk
  /// The original model's states before the block, moved on like `states`; null unless a scheme asks for them.
  HiddenStates* reference = nullptr;
};

/// What was measured of an input, as solvers take it.
struct Moments {
  ConstViewD hessian;                    ///< empty: none (an untied embedding)
  ConstViewF cross;                      ///< as in Problem; empty: none
  ConstViewF residual;                   ///< as in Problem, of the only tensor; empty: none
  std::vector<ConstViewD> readers = {};  ///< as in Problem, one per module; empty: none
  /// Of the neighbouring block, for solvers that pair blocks; nullptr: not known.
  const BlockWeights* neighbour = nullptr;
  ConstViewD neighbour_hessian = {};
};

struct BlockOutcome {
  BlockWeights weights;
  std::vector<TensorRecord> tensors;  ///< of what was solved or converted, in stage order
};

/// states: the block's input; on return the next block's, not saved. On disk, begin() must have named their file.
/// `stage_done` is called after each stage.
BlockOutcome compress_block(const BlockJob& job, std::size_t block, const BlockWeights& original, HiddenStates& states,
                            const std::function<void()>& stage_done);

/// Rows of a matrix that are solved at a time: fixed, so that memory bounds no bit. Grids that keep their side data
/// once per tensor are not cut, nor is what is pruned: rows compete for zeros.
std::size_t slice_rows(const ResolvedScheme& scheme, Shape shape);

/// True when a scheme solves a matrix of this stage: then its moments are wanted.
bool solves_stage(const CompressionPlan& plan, std::size_t block, Stage stage);
/// True when one shares a factor with the neighbouring block: then Moments::neighbour is wanted.
bool shares_stage(const CompressionPlan& plan, std::size_t block, Stage stage);

/// True when an export has scales of a cache: then a block's largest keys and values are stored with it.
bool wants_cache(const CompressionPlan& plan);

/// Solves or converts the matrices of one stage; `outcome` takes weights and records. inputs: of the stage. What lies
/// in the store is taken from there, and what is solved goes there; nullptr: there is none.
void solve_stage(const CompressionPlan& plan, std::size_t block, Stage stage, const BlockWeights& original,
                 const InputStatistics& inputs, Moments moments, BlockOutcome& outcome, SolutionStore* store = nullptr);

/// Warns of fallbacks; dead inputs are a note.
void tell_remarks(const std::vector<TensorRecord>& tensors, Progress& progress);

/// Solves or converts the matrices of one input together; `store` as above. The result has one entry per module, in
/// order; records are appended. originals: each is let go once it is decoded, so give the last reference away where
/// memory counts.
std::vector<TensorPtr> solve_modules(const CompressionPlan& plan, const std::vector<const ModulePlan*>& modules,
                                     std::vector<TensorPtr> originals, const Moments& moments,
                                     std::vector<TensorRecord>& records, SolutionStore* store = nullptr);

}  // namespace adze
