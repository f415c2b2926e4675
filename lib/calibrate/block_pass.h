// Runs one block over all calibration windows, stage by stage, measuring each stage's input on the way.
//
//   BlockPass pass(forward, states);                    states: the block's input (calibrate/hidden_states.h)
//   pass.measure(Stage::qkv, weights)                   norm(x)
//   pass.measure(Stage::o, weights)                     attention of what qkv now are
//   pass.measure(Stage::gate_up, weights)               adds the attention output to x, then norm(x)
//   pass.measure(Stage::down, weights)
//   pass.finish(weights)                                adds the FFN output: states are the next block's input
//
// Stages must come in this order, each once; anything else is an error of kind internal. Between two calls the caller
// may replace the weights of the stages already measured by compressed ones: what follows then sees those. Memory: one
// H, one batch of windows with its inputs and each thread's scratch, and the hidden states unless they lie on disk;
// these must have been given a file (HiddenStates::begin) then.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/matrix.h"
#include "calibrate/hidden_states.h"
#include "calibrate/statistics.h"
#include "model/forward.h"

namespace adze {

/// Statistics of inputs x, and the cross moment with the inputs x_reference that the original model gives.
struct ReferencedStatistics {
  InputStatistics inputs;
  MatrixD cross;  ///< sum (x_reference - x) x^T, [n x n]
  /// sum (s_reference - s) x^T, [hidden x n], s the states that the stage's output will be added to; empty for stages
  /// whose output is not added to the states as it is (qkv, gate_up; o and down of families that normalise it).
  MatrixD residual;
};

class BlockPass {
 public:
  BlockPass(const Forward& forward, HiddenStates& states) : forward_(forward), states_(states) {}

  InputStatistics measure(Stage stage, const BlockWeights& weights);
  /// The same, and how far the inputs lie from those of another pass over the same windows, whose turn it takes too:
  /// cross = sum (x_reference - x) x^T, [n x n], added up like H.
  ReferencedStatistics measure_against(BlockPass& reference, const BlockWeights& reference_weights, Stage stage,
                                       const BlockWeights& weights);
  /// All stages in their order and finish(), with weights that stay as they are, in one pass: the same bits for two
  /// thirds of the work; the inputs of a batch and every H are in memory together. As the first call.
  std::array<InputStatistics, kStages.size()> measure_all(const BlockWeights& weights);
  /// Takes the stage's turn without measuring: for stages that no solver needs an H of.
  void pass_by(Stage stage, const BlockWeights& weights);
  void finish(const BlockWeights& weights);
  /// Of the keys and values of all windows, with the weights that stages after qkv saw. After finish().
  const CacheMaxima& cache() const { return cache_; }

 private:
  ViewF inputs_of(std::size_t batch, Stage stage, const BlockWeights& weights);
  void add_cross(ConstViewF a, ConstViewF inputs, ViewD target) const;
  void take_turn(std::size_t step);

  const Forward& forward_;
  HiddenStates& states_;
  MatrixF inputs_;  ///< of the batch measured last
  CacheMaxima cache_;
  std::size_t next_step_ = 0;  ///< position in kStages, and after them finish()
};

/// Runs a block over all windows without measuring: states become the next block's input. The largest keys and values.
CacheMaxima run_block(const Forward& forward, const BlockWeights& weights, HiddenStates& states);

/// Statistics of the head's input: the final norm of every state. states are left as they are.
InputStatistics measure_head_input(const Forward& forward, std::span<const float> final_norm, HiddenStates& states);

/// Hidden states before block 0.  ids: all windows of `states`, one after the other.
void embed_windows(const Forward& forward, const CompressedTensor& embedding, std::span<const std::int32_t> ids,
                   HiddenStates& states);

}  // namespace adze
