// A tokenizer out of the metadata of a GGUF file: the texts of a tokenizer.json and a tokenizer_config.json that give
// the ids that llama.cpp gives for that file. tokenizer.huggingface.json, where there is one, is taken as it is.
//
// Reads tokenizer.ggml.model "gpt2" (byte-level BPE) with the splitting rules of split_family.h, and "llama"
// (SentencePiece BPE). Everything else is refused by name: WordPiece, Unigram, RWKV, splitting rules that we do not
// know, scores that no list of merges can express.
#pragma once

#include <string>

#include "checkpoint/gguf.h"

namespace adze {

struct GgufTokenizerFiles {
  std::string tokenizer_json;
  std::string tokenizer_config_json;  ///< special tokens, what goes around a text, chat templates
};

/// `file`: of a split, the first. Throws bad_data, naming file and key: a tokenizer that cannot be reproduced, arrays
/// of different lengths, ids outside the vocabulary, texts twice or no UTF-8, merges of unknown pieces.
GgufTokenizerFiles tokenizer_from_gguf(const GgufFile& file);

}  // namespace adze
