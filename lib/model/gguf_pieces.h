// SentencePiece vocabularies of GGUF files (tokenizer.ggml.model "llama") as a tokenizer.json says them.
#pragma once

#include "model/gguf_vocabulary.h"

namespace adze {

/// The runtime joins the adjacent pair whose joined text is the piece with the highest score, the leftmost of equals.
/// As merges: every split of every piece into two pieces, ranked by the score of the joined piece. Splits of one piece
/// are ordered by the length of their left half; a runtime would take the leftmost in the text, which matters only
/// where two ways to make the same piece overlap ("▁ ▁▁ ▁").
///
/// Throws bad_data where no list of merges does the same: equal scores of two pieces that merges make, pieces with a
/// character that is no piece (the runtime joins it all the same), a missing byte token, scores that are missing or not
/// finite, pieces longer than 1024 bytes, merges of more than 256 MiB.
GgufTokenizerParts piece_parts(const GgufVocabulary& vocabulary);

}  // namespace adze
