// Judging a model on a text: perplexity, and the distance from a reference model on the same tokens in the same run.
//
// Both models go through the text block by block, one block in memory at a time, with the hidden states of all windows,
// or of as many as memory allows: windows do not touch each other, so reading the blocks again for every group of them
// is cheaper than keeping states on disk. Logits live a slice of rows at a time and nothing is written to disk. Results
// are reduced in window order, so they do not depend on the number of threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "base/progress.h"
#include "evaluate/protocol.h"
#include "evaluate/result.h"
#include "model/activations.h"
#include "model/weights.h"

namespace adze {

/// How a model is judged, beyond the text and the protocol.
struct EvaluationOptions {
  /// Whose states are held together, 0 for all; every such group takes all blocks through memory again, and no bit of
  /// the result depends on it.
  std::size_t windows_at_once = 0;
  ScoreOptions scores = {};
  Activations activations = Activations::exact;  ///< of the judged model; the reference's are exact
};

/// What score_text() checks first: throws bad_data when the vocabularies differ, warns of windows beyond the model's
/// positions.
void check_models(const ModelWeights& model, const ModelWeights* reference, const Protocol& protocol,
                  Progress& progress);

/// Runs `model`, and `reference` unless it is nullptr, over the text. `ids` and `bos` as for make_windows. Throws
/// bad_data when the text is too short, when the models' vocabularies differ, or when logits are not finite.
TextScores score_text(const ModelWeights& model, const ModelWeights* reference, std::span<const std::int32_t> ids,
                      std::optional<std::int32_t> bos, const Protocol& protocol, Progress& progress,
                      const EvaluationOptions& options = {});

/// summarize() of that.
EvaluationResult evaluate(const ModelWeights& model, const ModelWeights* reference, std::span<const std::int32_t> ids,
                          std::optional<std::int32_t> bos, const Protocol& protocol, Progress& progress,
                          const EvaluationOptions& options = {});

/// Bytes that one thread scores a window of two models with, at most.
std::uint64_t scoring_bytes(std::size_t vocab, std::size_t hidden);

}  // namespace adze
