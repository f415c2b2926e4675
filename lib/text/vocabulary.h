// What a tokenizer.json says, as plain data: what a writer of other formats (GGUF) needs beside encode and decode.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace adze {

/// What the symbols of a BPE model are.
enum class BpeAlphabet : std::uint8_t {
  bytes,       ///< byte-level BPE: GPT-2, Llama 3, Qwen ...
  characters,  ///< SentencePiece-style BPE: Llama 2, Mistral, Gemma ...
};

enum class TokenKind : std::uint8_t {
  normal,   ///< of the model's vocabulary, text in the byte alphabet ("Ġthe") or with U+2581 for spaces ("▁the")
  byte,     ///< "<0x0A>": stands for a byte of a character that the vocabulary lacks
  control,  ///< added with "special": true, text literal
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

/// Where a space is put before text. Pieces are what lies between added tokens.
enum class SpacePrefix : std::uint8_t {
  never,
  always,             ///< before every piece
  always_if_missing,  ///< before every piece that does not start with one
  first_if_missing,   ///< the same, but only at the very beginning
};

/// How a vocabulary of characters treats text before merging. The usual rules are those of SentencePiece.
struct CharacterRules {
  bool marks_spaces = false;  ///< " " becomes U+2581
  SpacePrefix prefix = SpacePrefix::never;
  bool splits_at_marks = false;  ///< words start at U+2581: merges do not cross into it
  bool others = false;           ///< the file has further rules, which these fields do not state
  bool operator==(const CharacterRules&) const = default;
};

struct Vocabulary {
  BpeAlphabet kind = BpeAlphabet::bytes;
  std::vector<TokenEntry> tokens;                           ///< index = id
  std::vector<std::pair<std::string, std::string>> merges;  ///< by rank, halves in the byte alphabet
  SplitFamily split = SplitFamily::other;
  bool ignore_merges = false;              ///< a word that is a token as a whole is taken as it is
  bool normalizes_nfc = false;             ///< text goes through NFC first
  bool adds_prefix_space = false;          ///< bytes: " " is put before text that does not start with one
  CharacterRules characters;               ///< of BpeAlphabet::characters
  bool byte_fallback = false;              ///< characters: missing ones become byte tokens
  std::optional<std::int32_t> unknown_id;  ///< stands for what the vocabulary lacks
  std::vector<std::int32_t> prefix_ids;    ///< what the post-processor puts before one sequence
  std::vector<std::int32_t> suffix_ids;    ///< and after it
};

/// The first id that does not stand for the same text in both; nothing when all do. Which added tokens are special may
/// differ: a GGUF calls all of them so that look like markup.
std::optional<std::size_t> first_difference(const Vocabulary& a, const Vocabulary& b);

/// "byte-level" or "SentencePiece-style".
std::string_view name_of(BpeAlphabet kind);

/// Lower-case name for messages ("llama3").
std::string_view name_of(SplitFamily family);

/// The value of tokenizer.ggml.pre whose rules equal this vocabulary's; nothing when runtimes know no such rules.
/// Runtimes tie ignore_merges to this name: "llama-bpe" has it, "smaug-bpe" is the same split without.
std::optional<std::string_view> gguf_pre_name(const Vocabulary& vocabulary);

}  // namespace adze
