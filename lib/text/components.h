// The parts of a tokenizer.json around the model: pre-tokenizer, post-processor and the decoder of byte-level BPE. Only
// what BPE files use is understood; any other type is refused by name.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "text/splitter.h"
#include "text/vocabulary.h"

namespace adze {

/// Replaces spaces by a mark and puts one before pieces that lack it.
struct Metaspace {
  std::string replacement;
  SpacePrefix prefix = SpacePrefix::always_if_missing;  ///< not `always`
  bool split = true;                                    ///< words start at the mark

  /// `is_first`: the piece starts at the beginning of the whole text.
  std::string apply(std::string_view piece, bool is_first) const;
};

struct PreTokenizer {
  std::vector<std::shared_ptr<const Splitter>> steps;  ///< in order; none: a piece is one word
  SplitFamily family = SplitFamily::other;
  bool adds_prefix_space = false;
  std::optional<Metaspace> metaspace;  ///< comes first; the splitters then see its text
};

/// "pre_tokenizer" of byte-level BPE: Split, Digits and Punctuation in any number and order, then one ByteLevel.
PreTokenizer parse_byte_level_pre_tokenizer(const nlohmann::json* value);

/// "pre_tokenizer" of a vocabulary of characters: null, one Metaspace, or Split, Digits and Punctuation in any number
/// and order.
PreTokenizer parse_character_pre_tokenizer(const nlohmann::json* value);

/// What the post-processor puts around one sequence.
struct Affixes {
  std::vector<std::int32_t> prefix, suffix;
};

/// "post_processor": null, ByteLevel, TemplateProcessing, BertProcessing, RobertaProcessing or a Sequence of these.
Affixes parse_post_processor(const nlohmann::json* value);

/// "decoder" must be ByteLevel, alone or in a Sequence with Fuse.
void check_byte_level_decoder(const nlohmann::json* value);

}  // namespace adze
