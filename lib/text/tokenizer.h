// Text -> token ids -> text, as a Hugging Face tokenizer.json says, for BPE: byte-level (GPT-2, Llama-3, Qwen, Tekken,
// o200k, StarCoder, DeepSeek ...) and SentencePiece-style (Llama-2, Mistral, Gemma ...). Agrees token for token with
// the reference implementations.
//
// Unigram, WordPiece and WordLevel files are refused by name, and so is any component whose meaning is not implemented:
// a tokenizer that is nearly right is worse than none.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/vocabulary.h"

namespace adze {

/// What to do with the text of special tokens ("<|eot|>") inside the text to encode.
enum class SpecialText : std::uint8_t {
  match,  ///< it becomes the token, as the reference does
  plain,  ///< it stays text: for input that must not smuggle control tokens in
};

/// Immutable, cheap to copy and safe from any thread.
class Tokenizer {
 public:
  /// `json` is the content of a tokenizer.json; `origin` (its name) leads the messages. Throws bad_data.
  static Tokenizer from_json(std::string_view json, const std::string& origin);
  static Tokenizer from_file(const std::filesystem::path& path);

  /// Ids of `text`. Ill-formed UTF-8 is read as U+FFFD (text/utf8.h). With `add_special` the ids of the post-processor
  /// are put around it (usually a beginning-of-text token). Throws bad_data above 2^31 - 1 bytes, and when a split
  /// pattern of the file backtracks beyond reason.
  std::vector<std::int32_t> encode(std::string_view text, bool add_special,
                                   SpecialText special_text = SpecialText::match) const;

  /// Text of `ids`; unknown ids are dropped, bytes that are no UTF-8 become U+FFFD (SentencePiece-style: one for every
  /// byte of a run of byte tokens, as the reference has it). With `skip_special` control tokens
  /// are left out. Added tokens decode to their content.
  std::string decode(std::span<const std::int32_t> ids, bool skip_special = false) const;

  /// The bytes that one token stands for inside a text, perhaps a part of a character; empty for an unknown id.
  std::string_view token_bytes(std::int32_t id) const;

  const Vocabulary& vocabulary() const;
  /// Number of ids, gaps included: max(id) + 1.
  std::size_t size() const { return vocabulary().tokens.size(); }

 private:
  struct Parts;
  explicit Tokenizer(std::shared_ptr<const Parts> parts) : parts_(std::move(parts)) {}

  std::shared_ptr<const Parts> parts_;
};

}  // namespace adze
