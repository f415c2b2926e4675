// The text files that a Hugging Face folder of a GGUF's model would hold, made from its metadata: config.json, the
// tokenizer's files (gguf_tokenizer.h), and gguf.json, which keeps what of `general.*` has no place in the others
// (name, author, licence link ...), so that an export of the model says the same again.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/folder_files.h"
#include "model/gguf_weights.h"

namespace adze {

/// Name of the kept file with the `general.*` keys that an export writes again: one JSON object, key -> text, number,
/// boolean or list of texts.
inline constexpr std::string_view kGgufKeysFile = "gguf.json";

/// config.json and gguf.json. parse_architecture() gives the architecture back. Throws bad_data when config.json has no
/// words for it: biases on q, k and v but not on the output projection, or the other way round.
std::vector<StoreFile> gguf_settings_files(const GgufWeights& weights);

/// general.name; empty when the file does not say.
std::string gguf_model_name(const GgufFile& file);

}  // namespace adze
