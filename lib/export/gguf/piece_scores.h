// Scores for SentencePiece-style vocabularies in GGUF. A runtime has no merges: it joins the adjacent pair whose joined
// text is the token with the highest score. Merges can be said so only when they are complete and in an order of their
// results; anything else is refused, since the file would load and read another text.
#pragma once

#include <string>
#include <vector>

#include "text/vocabulary.h"

namespace adze {

/// One score per token: 0 for byte, control and unknown tokens; 0, -1, -2 ... for the results of merges, by rank; then
/// the other tokens by id. This is the numbering of SentencePiece's own files. Throws bad_data naming a token: merges
/// of one result that are not together, a split of a token into two tokens that has no merge, a token with a character
/// that is none.
std::vector<float> piece_scores(const Vocabulary& vocabulary);

/// Throws bad_data when a runtime would treat text otherwise before joining: other normalizers or splits, spaces that
/// stay spaces, no byte tokens, ignore_merges, tokens across words that may not be crossed.
void check_character_rules(const Vocabulary& vocabulary);

/// What a runtime reads differently all the same, as a sentence; empty when nothing.
std::string character_remark(const Vocabulary& vocabulary);

}  // namespace adze
