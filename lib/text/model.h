// Field "model" of a tokenizer.json: a byte-level BPE vocabulary and its merges, checked against each other.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "text/bpe.h"

namespace adze {

struct BpeModel {
  std::unordered_map<std::string, std::int32_t> vocab;      ///< text in the byte alphabet -> id; ids are distinct
  std::vector<std::pair<std::string, std::string>> merges;  ///< by rank
  bool ignore_merges = false;
  BpeRules rules;
};

/// Throws bad_data when `root` (the whole file) is a tokenizer of another kind (SentencePiece, Unigram, WordPiece,
/// ...), saying which.
void require_byte_level_bpe(const nlohmann::json& root);

/// Throws bad_data: wrong types, an id twice or out of range, a merge whose parts are not in the vocabulary, options
/// that byte-level models do not have.
BpeModel parse_bpe_model(const nlohmann::json& value);

}  // namespace adze
