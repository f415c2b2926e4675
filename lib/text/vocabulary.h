// What a tokenizer.json says, as plain data: what a writer of other formats (GGUF) needs beside encode and decode.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace adze {

enum class TokenKind : std::uint8_t {
  normal,        ///< of the model's vocabulary, text in the byte alphabet ("Ġthe")
  control,       ///< added with "special": true, text literal
  user_defined,  ///< added without it, text literal
  unused,        ///< a gap: no token has this id, text empty
};

struct TokenEntry {
  std::string text;  ///< as stored in the file
  TokenKind kind = TokenKind::unused;
  bool operator==(const TokenEntry&) const = default;
};

/// Which known rule splits text into words. The regular expressions are in split_family.cpp.
enum class SplitFamily : std::uint8_t {
  gpt2,         ///< ByteLevel's own
  digits_gpt2,  ///< single digits, then GPT-2's (StarCoder, SmolLM, Command-R)
  llama3,
  qwen2,
  qwen35,
  tekken,
  o200k,
  deepseek_v3,
  other,
};

struct Vocabulary {
  std::vector<TokenEntry> tokens;                           ///< index = id
  std::vector<std::pair<std::string, std::string>> merges;  ///< by rank, halves in the byte alphabet
  SplitFamily split = SplitFamily::other;
  bool ignore_merges = false;            ///< a word that is a token as a whole is taken as it is
  bool normalizes_nfc = false;           ///< text goes through NFC first
  bool adds_prefix_space = false;        ///< " " is put before text that does not start with one
  std::vector<std::int32_t> prefix_ids;  ///< what the post-processor puts before one sequence
  std::vector<std::int32_t> suffix_ids;  ///< and after it
};

/// Lower-case name for messages ("llama3").
std::string_view name_of(SplitFamily family);

/// The value of tokenizer.ggml.pre whose rules equal this vocabulary's; nothing when runtimes know no such rules.
/// Runtimes tie ignore_merges to this name: "llama-bpe" has it, "smaug-bpe" is the same split without.
std::optional<std::string_view> gguf_pre_name(const Vocabulary& vocabulary);

}  // namespace adze
