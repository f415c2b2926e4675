// The tokenizer.* keys of a GGUF file: vocabulary, special tokens and the chat template; for byte-level BPE merges and
// the name of the splitting rules, for SentencePiece-style BPE scores and whether text gets a space in front.
#pragma once

#include <cstddef>
#include <vector>

#include "checkpoint/gguf_value.h"
#include "export/gguf/folder_settings.h"
#include "text/vocabulary.h"

namespace adze {

/// `rows` is the number of rows of the embedding: a smaller vocabulary is filled up with unused tokens. Throws
/// bad_data: rules that a runtime does not have (piece_scores.h for SentencePiece-style BPE), more tokens than rows, a
/// text twice, splitting rules that no runtime has, tokens around a text that are not BOS and EOS, a blank in front of
/// every text, no end-of-text token, ids outside the vocabulary.
std::vector<GgufKeyValue> tokenizer_metadata(const Vocabulary& vocabulary, std::size_t rows,
                                             const FolderSettings& settings);

}  // namespace adze
