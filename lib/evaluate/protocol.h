// Which tokens of a text are scored and what precedes them. A perplexity means nothing without its protocol, so one
// scorer takes the protocol as parameters and every result carries its name.
//
// lcpp-N (llama.cpp's llama-perplexity): windows of N, BOS in place of the first token of each, second half scored.
// gptq-N (GPTQ and most papers): windows of N, BOS at the start of the text only, all N - 1 predictions scored.
// Windows do not overlap; what remains at the end of the text is dropped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/matrix.h"

namespace adze {

/// Where BOS goes, for tokenizers that add one: nowhere, before the text, or also over each window's first token.
enum class BosPolicy : std::uint8_t { none, first, each };

struct Protocol {
  std::string name;            ///< "lcpp-512"
  std::size_t window = 512;    ///< tokens
  std::size_t score_from = 0;  ///< first position whose prediction (of the next token) counts
  BosPolicy bos = BosPolicy::first;

  /// Positions score_from .. window - 2.
  std::size_t scored_per_window() const { return window - 1 - score_from; }
};

/// "lcpp-512", "gptq-2048", ... Throws usage for another name or a window outside 8 .. 2^20.
Protocol parse_protocol(std::string_view name);

/// Throws internal unless at least 2 positions of a window are scored.
void check_protocol(const Protocol& protocol);

/// Cuts a text into windows: [windows x protocol.window]. `ids` holds no special tokens; `bos` is the id that the
/// tokenizer puts before a text, if it does. Throws bad_data when the text is shorter than one window.
Matrix<std::int32_t> make_windows(std::span<const std::int32_t> ids, std::optional<std::int32_t> bos,
                                  const Protocol& protocol);

}  // namespace adze
