// The parts of a tokenizer.json around the model: normalizer, pre-tokenizer, post-processor and decoder. Only what
// byte-level BPE files use is understood; any other type is refused by name.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "text/splitter.h"
#include "text/vocabulary.h"

namespace adze {

/// "normalizer": null, NFC or a Sequence of these. True when text goes through NFC.
bool parse_normalizer(const nlohmann::json* value);

struct PreTokenizer {
  std::vector<std::shared_ptr<const Splitter>> steps;  ///< in order; none: a piece is one word
  SplitFamily family = SplitFamily::other;
  bool adds_prefix_space = false;
};

/// "pre_tokenizer": Split, Digits and Punctuation in any number and order, then one ByteLevel.
PreTokenizer parse_pre_tokenizer(const nlohmann::json* value);

/// What the post-processor puts around one sequence.
struct Affixes {
  std::vector<std::int32_t> prefix, suffix;
};

/// "post_processor": null, ByteLevel, TemplateProcessing, BertProcessing, RobertaProcessing or a Sequence of these.
Affixes parse_post_processor(const nlohmann::json* value);

/// "decoder" must be ByteLevel, alone or in a Sequence with Fuse.
void check_decoder(const nlohmann::json* value);

}  // namespace adze
