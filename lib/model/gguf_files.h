// The text files that a Hugging Face folder of a GGUF's model would hold, made from its metadata: config.json, the
// tokenizer's files (gguf_tokenizer.h), and gguf.json, which keeps what has no place in the others, so that an export
// of the model says the same again: `general.*` (name, author, licence link ...), `quantize.*` (the importance matrix
// that was used), ids of special tokens. Left out is what no file can say again, such as an empty text.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/folder_files.h"
#include "model/gguf_weights.h"

namespace adze {

/// Name of the kept file with the keys that an export writes again: one JSON object, key -> text, number, boolean or
/// list of texts.
inline constexpr std::string_view kGgufKeysFile = "gguf.json";

/// A key of that file that describes the model; any such value goes.
bool is_kept_gguf_text(std::string_view key);
/// A key of that file that names a special token: the end of a turn, the parts of a text with a gap ...
bool is_kept_gguf_id(std::string_view key);
/// "eot" -> "tokenizer.ggml.eot_token_id".
std::string gguf_id_key(std::string_view role);

/// config.json and gguf.json. parse_architecture() gives the architecture back. Throws bad_data when config.json has no
/// words for it: biases on q, k and v but not on the output projection, or the other way round.
std::vector<StoreFile> gguf_settings_files(const GgufWeights& weights);

/// general.name; empty when the file does not say.
std::string gguf_model_name(const GgufFile& file);

}  // namespace adze
