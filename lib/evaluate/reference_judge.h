// Judging many versions of one model against it, on the same windows: what they share is computed once. A version that
// differs in one block only starts at that block, from the original's states there.
//
//   ReferenceJudge judge(original, ids, bos, protocol);
//   for (; judge.block() < layers; judge.advance()) judge.judge_block(versions of judge.block());
//
// The numbers are those of evaluate(version, &original, ...), to the bit; judge_block() leaves out what is resampled.
// Judging on several texts takes one judge each: the original runs once for any number of versions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "evaluate/evaluate.h"
#include "evaluate/window_scores.h"

namespace adze {

class ReferenceJudge {
 public:
  /// Runs the original once. `original` is referenced. ids, bos and what is thrown: as evaluate(). Two streams of
  /// states of all windows are held, three once a single block is judged.
  ReferenceJudge(const ModelWeights& original, std::span<const std::int32_t> ids, std::optional<std::int32_t> bos,
                 const Protocol& protocol);

  /// The block whose input is at hand; the number of blocks once all are behind.
  std::size_t block() const { return block_; }
  /// On to the next block.
  void advance();
  /// Back to the first one.
  void rewind();
  /// The original with its block() exchanged, one result (Inference::point) for each. Later blocks are loaded once for
  /// `kAtOnce` of them.
  std::vector<EvaluationResult> judge_block(std::span<const BlockWeights> versions);
  /// The original's states before block(), one [tokens x hidden] per window; and those that a version of it makes.
  std::span<const MatrixF> states() {
    embed_once();
    return states_;
  }
  std::vector<MatrixF> states_after(const BlockWeights& version);
  /// Any states through a block, on all threads.
  void run(const BlockWeights& block, std::span<MatrixF> states) { run_block(forward_, block, states, workspaces_); }
  /// A whole model with the original's vocabulary and windows.
  EvaluationResult judge(const ModelWeights& version, Inference inference = Inference::full);
  /// What summarize() makes the former of, for pooling texts and for audits.
  TextScores scores(const ModelWeights& version, const ScoreOptions& options = {},
                    Activations activations = Activations::exact);

  /// Versions whose states are held together.
  static constexpr std::size_t kAtOnce = 8;

 private:
  void embed_once();
  TextScores score(const FinishedWindows& version, const ScoreOptions& options) const;

  const ModelWeights& original_;
  Protocol protocol_;
  std::shared_ptr<const Matrix<std::int32_t>> windows_;
  Forward forward_;
  Norm norm_;
  TensorPtr head_;
  std::vector<MatrixF> final_;   ///< of the original, after all blocks
  std::vector<MatrixF> states_;  ///< of the original, before block_; empty until they are asked for
  std::size_t block_ = 0;
  Pool<Workspace> workspaces_;
};

}  // namespace adze
