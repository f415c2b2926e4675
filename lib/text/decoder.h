// From tokens back to text, for vocabularies of characters (SentencePiece-style BPE): a chain of steps over the list of
// token texts, as the field "decoder" of a tokenizer.json states it. Byte-level BPE needs none of this: its tokens are
// bytes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace adze {

enum class DecoderKind : std::uint8_t {
  replace,        ///< in each token every `pattern` becomes `content`
  metaspace,      ///< in each token `pattern` becomes a space; in the first it vanishes when `strips_first`
  byte_fallback,  ///< runs of <0xNN> become their bytes, or one U+FFFD per byte where these are no UTF-8
  fuse,           ///< all tokens become one
  strip,          ///< up to `start` and `stop` characters `content` leave each token's ends
};

struct DecoderStep {
  DecoderKind kind = DecoderKind::fuse;
  std::string pattern, content;
  std::uint64_t start = 0, stop = 0;
  bool strips_first = false;
};

/// Immutable and safe from any thread.
class Decoder {
 public:
  Decoder() = default;
  /// Replace of a string, Metaspace, ByteFallback, Fuse, Strip, or a Sequence of these. Throws bad_data: null, any
  /// other type.
  explicit Decoder(const nlohmann::json* value);

  /// The text of a list of token texts.
  std::string decode(std::vector<std::string> tokens) const;
  /// What one token's text becomes inside a text: replacements only.
  std::string inside(std::string token) const;

 private:
  std::vector<DecoderStep> steps_;
};

/// The byte of "<0x0A>" (two hexadecimal digits of either case), or -1.
int byte_of_token(std::string_view text);

}  // namespace adze
