// Test helpers: scores of a text that were made by hand.
#pragma once

#include <algorithm>
#include <memory>

#include "evaluate/result.h"
#include "evaluate/text_scores.h"

namespace adze::testing {

/// scores: [windows x protocol.scored_per_window()]. All ids are 0 unless they are given: [windows x protocol.window].
inline TextScores text_scores(const Matrix<TokenScore>& scores, const Protocol& protocol, bool with_reference,
                              Matrix<std::int32_t> ids = {}) {
  if (ids.empty()) ids = Matrix<std::int32_t>(scores.rows(), protocol.window);
  TextScores text;
  text.protocol = protocol.name;
  text.with_reference = with_reference;
  text.ids = std::make_shared<const Matrix<std::int32_t>>(std::move(ids));
  text.score_from = protocol.score_from;
  if (with_reference) text.tokens = Matrix<TokenTrace>(scores.shape());
  for (std::size_t w = 0; w < scores.rows(); ++w) {
    text.windows.push_back(reduce_window(scores.row(w)));
    if (with_reference) std::ranges::transform(scores.row(w), text.tokens.row(w).begin(), trace_of);
    if (with_reference) text.overlaps.add(scores.row(w));
  }
  return text;
}

}  // namespace adze::testing
