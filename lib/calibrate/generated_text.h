// Calibration text that a model writes itself, for when there is none of its own kind (self-calibration, arXiv
// 2410.17170; specification evaluation.md, 9.6): windows sampled from the model token by token, of which those that the
// model itself finds least likely are left out.
//
// A text begins as the tokenizer begins texts, or, where it adds nothing, with a token drawn from all. At an
// end-of-text token the next text begins in the same window; such tokens are not kept. All weights are in memory, and a
// cache of keys and values for as many windows as are written at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/progress.h"
#include "model/weights.h"
#include "text/tokenizer.h"

namespace adze {

struct GenerateOptions {
  std::size_t windows = 64;
  std::size_t tokens = 512;  ///< of a window, special tokens at its start included
  std::uint64_t seed = 1;
  double temperature = 1;  ///< above 0
  double top_p = 1;        ///< least probability mass that is drawn from; 1: all tokens
  double drop = 0.2;       ///< share of what is written that is left out: the windows of highest perplexity
};

struct GeneratedText {
  std::vector<std::int32_t> ids;   ///< of the windows kept, without special tokens: windows x (tokens - specials)
  std::vector<double> window_nll;  ///< mean -log P of their tokens, in nats, P at temperature 1
  std::size_t dropped = 0;         ///< windows
  double dropped_nll = 0;          ///< mean of theirs
};

/// The same for any number of threads. Throws usage for options out of range and windows that do not fit the model.
GeneratedText generate_text(const ModelWeights& model, const Tokenizer& tokenizer, const GenerateOptions& options,
                            Progress& progress);

}  // namespace adze
