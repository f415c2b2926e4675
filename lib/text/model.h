// Field "model" of a tokenizer.json: a BPE vocabulary and its merges, checked against each other.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "text/bpe.h"
#include "text/vocabulary.h"

namespace adze {

struct BpeModel {
  std::unordered_map<std::string, std::int32_t> vocab;      ///< text as stored -> id; ids are distinct
  std::vector<std::pair<std::string, std::string>> merges;  ///< by rank
  bool ignore_merges = false;
  std::string unknown;  ///< unk_token; empty: none
  BpeRules rules;
};

/// The kind of BPE that `root` (the whole file) is: of bytes when its pre-tokenizer or decoder is ByteLevel, else of
/// characters. Throws bad_data when it is a tokenizer of another kind (Unigram, WordPiece, ...), saying which.
BpeAlphabet require_bpe(const nlohmann::json& root);

/// Throws bad_data: wrong types, an id twice or out of range, a merge whose parts are not in the vocabulary, options
/// that such models do not have.
BpeModel parse_bpe_model(const nlohmann::json& value, BpeAlphabet kind);

}  // namespace adze
