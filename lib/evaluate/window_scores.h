// From hidden states to scores: what judging a whole model and judging many versions of one have in common. Internal to
// evaluate/.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "base/matrix.h"
#include "evaluate/protocol.h"
#include "evaluate/text_scores.h"
#include "evaluate/token_score.h"
#include "model/forward.h"
#include "model/pool.h"
#include "model/weights.h"

namespace adze {

/// States of windows after all blocks, one [tokens x hidden] each, and what makes logits of them. References its parts.
struct FinishedWindows {
  const Forward& forward;
  std::span<const MatrixF> hidden;
  const Norm& norm;
  const CompressedTensor& head;

  /// The states of all positions of a window before the head.
  ViewF normed(std::size_t window, Workspace& work) const;
  /// Logits of positions [first, first + out.rows()) of a window. Throws bad_data when they are not finite.
  void logits(std::size_t window, std::size_t first, ViewF out, Workspace& work) const;
};

/// What one worker needs to score a window.
struct ScoreBuffers {
  Workspace work;
  std::array<std::vector<float>, 2> logits;  ///< of the model and of the reference
  ScoreScratch scratch;
  std::vector<TokenScore> scores;
};

/// Embedded windows: one [tokens x hidden] each, on all threads.
std::vector<MatrixF> embedded(const Forward& forward, const InputTables& tables,
                              MatrixView<const std::int32_t> windows);

/// A block on all windows, on all threads.
void run_block(const Forward& forward, const BlockWeights& block, std::span<MatrixF> hidden,
               Pool<Workspace>& workspaces);

/// Scores of a text, filled by groups of its windows.
class TextScorer {
 public:
  TextScorer(std::shared_ptr<const Matrix<std::int32_t>> ids, const Protocol& protocol, bool with_reference,
             const ScoreOptions& options);

  /// Scores windows [first, first + model.hidden.size()), on all threads. base: of the reference on the same windows;
  /// nullptr: there is none.
  void score(const FinishedWindows& model, const FinishedWindows* base, std::size_t first);
  /// After all windows.
  TextScores finish();

 private:
  void score_window(const FinishedWindows& model, const FinishedWindows* base, std::size_t at, std::size_t window,
                    ScoreBuffers& buffers);

  Protocol protocol_;
  ScoreOptions options_;
  TextScores scores_;
  WorstTokens worst_;
  std::mutex mutex_;  // of scores_.overlaps
  Pool<ScoreBuffers> buffers_;
};

}  // namespace adze
