// From hidden states to scores: what judging a whole model and judging many versions of one have in common. Internal to
// evaluate/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/matrix.h"
#include "evaluate/protocol.h"
#include "evaluate/token_score.h"
#include "model/forward.h"
#include "model/pool.h"
#include "model/weights.h"

namespace adze {

/// States of windows after all blocks, one [tokens x hidden] each, and what makes logits of them. References its parts.
struct FinishedWindows {
  const Forward& forward;
  std::span<const MatrixF> hidden;
  std::span<const float> norm;
  const CompressedTensor& head;

  /// Logits of positions [first, first + out.rows()) of a window. Throws bad_data when they are not finite.
  void logits(std::size_t window, std::size_t first, ViewF out, Workspace& work) const;
};

/// Embedded windows: one [tokens x hidden] each, on all threads.
std::vector<MatrixF> embedded(const CompressedTensor& table, MatrixView<const std::int32_t> windows);

/// A block on all windows, on all threads.
void run_block(const Forward& forward, const BlockWeights& block, std::span<MatrixF> hidden,
               Pool<Workspace>& workspaces);

/// Scores every window into the rows of `out` [windows x protocol.scored_per_window()], on all threads. base: of the
/// reference on the same windows; nullptr: there is none.
void score_windows(const FinishedWindows& model, const FinishedWindows* base, MatrixView<const std::int32_t> windows,
                   const Protocol& protocol, MatrixView<TokenScore> out);

}  // namespace adze
