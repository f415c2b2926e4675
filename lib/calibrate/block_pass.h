// Runs one block over all calibration windows, stage by stage, measuring each stage's input on the way.
//
//   BlockPass pass(forward, hidden, tokens);            hidden: all windows' states, [windows * tokens x hidden]
//   pass.measure(Stage::qkv, weights)                   norm(x)
//   pass.measure(Stage::o, weights)                     attention of what qkv now are
//   pass.measure(Stage::gate_up, weights)               adds the attention output to x, then norm(x)
//   pass.measure(Stage::down, weights)
//   pass.finish(weights)                                adds the FFN output: hidden is the next block's input
//
// Stages must come in this order, each once; anything else is an error of kind internal. Between two calls the caller
// may replace the weights of the stages already measured by compressed ones: what follows then sees those. Memory: the
// hidden states, one H, one batch of windows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/matrix.h"
#include "calibrate/statistics.h"
#include "model/forward.h"
#include "model/pool.h"

namespace adze {

/// Windows whose inputs are held together: at least 4096 tokens, and one window per thread. How many there are changes
/// no bit of the result: sums are taken window by window in any case.
std::size_t batch_windows(std::size_t tokens);

class BlockPass {
 public:
  BlockPass(const Forward& forward, ViewF hidden, std::size_t tokens);

  InputStatistics measure(Stage stage, const BlockWeights& weights);
  /// Takes the stage's turn without measuring: for stages that no solver needs an H of.
  void pass_by(Stage stage, const BlockWeights& weights);
  void finish(const BlockWeights& weights);

 private:
  template <typename Body>
  InputStatistics collect(std::size_t width, Body&& body);
  void add_attention(const BlockWeights& weights, ViewF x);
  void take_turn(std::size_t step);

  const Forward& forward_;
  ViewF hidden_;
  std::size_t tokens_;
  std::size_t next_step_ = 0;  ///< position in kStages, and after them finish()
  Pool<Workspace> scratch_;
};

/// Runs a block over all windows without measuring: hidden becomes the next block's input.
void run_block(const Forward& forward, const BlockWeights& weights, std::size_t tokens, ViewF hidden);

/// Statistics of the head's input: the final norm of every state. hidden is left as it is.
InputStatistics measure_head_input(const Forward& forward, std::span<const float> final_norm, std::size_t tokens,
                                   ConstViewF hidden);

/// Hidden states before block 0.  ids: windows one after the other; result: [ids.size() x hidden].
MatrixF embed_windows(const Architecture& architecture, const CompressedTensor& embedding,
                      std::span<const std::int32_t> ids);

}  // namespace adze
