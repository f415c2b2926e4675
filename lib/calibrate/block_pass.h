// Runs one block over all calibration windows, stage by stage, measuring each stage's input on the way.
//
//   BlockPass pass(forward, states);                    states: the block's input (calibrate/hidden_states.h)
//   pass.measure(Stage::qkv, weights)                   norm(x)
//   pass.measure(Stage::o, weights)                     attention of what qkv now are
//   pass.measure(Stage::gate_up, weights)               adds the attention output to x, then norm(x)
//   pass.measure(Stage::down, weights)
//   pass.finish(weights)                                adds the FFN output: states are the next block's input
//
// In mixtures the stages of the experts follow, one expert after the other, each measured with the tokens that the
// router sends there (calibrate/expert_tokens.h): time grows with them, not with the number of experts. Experts' inputs
// are summed in slices of as many tokens, whichever windows these are of.
//
// Stages must come in the order of stages_of(), each once; anything else is an error of kind internal. Between two
// calls the caller may replace the weights of the stages already measured by compressed ones: what follows then sees
// those. Memory: one H, one batch of windows with its inputs and each thread's scratch, and the hidden states unless
// they lie on disk; these must have been given a file (HiddenStates::begin) then.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/matrix.h"
#include "calibrate/expert_tokens.h"
#include "calibrate/hidden_states.h"
#include "calibrate/statistics.h"
#include "model/forward.h"

namespace adze {

/// Statistics of inputs x, and the cross moment with the inputs x_reference that the original model gives.
struct ReferencedStatistics {
  InputStatistics inputs;
  MatrixD cross;  ///< sum (x_reference - x) x^T, [n x n]
  /// sum (s_reference - s) x^T, [hidden x n], s the states that the stage's output will be added to; empty for stages
  /// whose output is not added to the states as it is (qkv, gate_up; o and down of families that normalise it;
  /// experts).
  MatrixD residual;
};

class BlockPass {
 public:
  BlockPass(const Forward& forward, HiddenStates& states, ExpertInputs experts = ExpertInputs::routed);

  InputStatistics measure(Stage stage, const BlockWeights& weights);
  /// The same, and how far the inputs lie from those of another pass over the same windows, whose turn it takes too:
  /// cross = sum (x_reference - x) x^T, [n x n], added up like H.
  ReferencedStatistics measure_against(BlockPass& reference, const BlockWeights& reference_weights, Stage stage,
                                       const BlockWeights& weights);
  /// All stages in their order and finish(), with weights that stay as they are, in one pass but for experts: the same
  /// bits for two thirds of the work; the inputs of a batch and every H but those of experts are in memory together.
  /// take(stage, statistics) is given them in their order. As the first call.
  void measure_all(const BlockWeights& weights, const std::function<void(Stage, const InputStatistics&)>& take);
  /// Takes the stage's turn without measuring: for stages that no solver needs an H of.
  void pass_by(Stage stage, const BlockWeights& weights);
  void finish(const BlockWeights& weights);
  /// Of the keys and values of all windows, with the weights that stages after qkv saw. After finish().
  const CacheMaxima& cache() const { return cache_; }

 private:
  ViewF inputs_of(std::size_t batch, Stage stage, const BlockWeights& weights);
  void route(std::size_t batch, ConstViewF normed, const BlockWeights& weights);
  void choose_tokens(std::size_t expert);
  MatrixF expert_inputs(Stage stage, const BlockWeights& weights, ViewF rows) const;
  InputStatistics measure_expert(Stage stage, const BlockWeights& weights);
  ReferencedStatistics measure_expert_against(const BlockPass& reference, const BlockWeights& reference_weights,
                                              Stage stage, const BlockWeights& weights);
  void add_cross(ConstViewF a, ConstViewF inputs, ViewD target) const;
  void take_turn(Stage stage);

  const Forward& forward_;
  HiddenStates& states_;
  ExpertInputs experts_;
  std::vector<Stage> stages_;
  MatrixF inputs_;  ///< of the batch measured last
  CacheMaxima cache_;
  std::size_t next_ = 0;                            ///< in stages_; after them comes finish()
  std::vector<std::vector<std::uint32_t>> routed_;  ///< by expert, rows of all windows
  ExpertTokens tokens_;                             ///< of the expert whose turn it is
};

/// Runs a block over all windows without measuring: states become the next block's input. The largest keys and values.
CacheMaxima run_block(const Forward& forward, const BlockWeights& weights, HiddenStates& states);

/// Statistics of the head's input: the final norm of every state. states are left as they are.
InputStatistics measure_head_input(const Forward& forward, const Norm& norm, HiddenStates& states);

/// Hidden states before block 0.  ids: all windows of `states`, one after the other.
void embed_windows(const Forward& forward, const InputTables& tables, std::span<const std::int32_t> ids,
                   HiddenStates& states);

}  // namespace adze
