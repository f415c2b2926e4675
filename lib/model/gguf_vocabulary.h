// The tokenizer.ggml.* keys of one GGUF file, checked, and the parts of a tokenizer.json that say the same.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <nlohmann/json.hpp>

#include "checkpoint/gguf.h"

namespace adze {

/// Values of tokenizer.ggml.token_type.
enum class GgufTokenType : std::int32_t { undefined, normal, unknown, control, user_defined, unused, byte };

/// The fields of a tokenizer.json that depend on the kind of model.
struct GgufTokenizerParts {
  nlohmann::json normalizer, pre_tokenizer, decoder, model;
};

/// Borrows the file.
class GgufVocabulary {
 public:
  /// Throws bad_data: missing keys, lengths that differ, a text twice or no UTF-8, special ids outside.
  explicit GgufVocabulary(const GgufFile& file);

  const GgufFile& file() const { return file_; }
  /// Index = id.
  const std::vector<std::string>& texts() const { return texts_; }
  GgufTokenType type(std::size_t id) const;
  /// True for an id that stands for nothing: no text, or a filler "[PAD<id>]" of type UNUSED.
  bool is_gap(std::size_t id) const;
  /// True for a text that is matched before the model sees it: control, user-defined and unknown tokens.
  bool is_added(std::size_t id) const;
  /// The id of a text; nothing when there is none.
  std::optional<std::uint32_t> find(std::string_view text) const;

  /// tokenizer.ggml.<role>_token_id.
  std::optional<std::uint32_t> special_id(std::string_view role) const;
  bool adds_bos() const { return adds("bos"); }
  bool adds_eos() const { return adds("eos"); }

  /// Field "added_tokens": everything that is matched in the text before the model sees it.
  nlohmann::json added_tokens() const;
  /// Throws bad_data when the model or its rules are not among those that can be reproduced.
  GgufTokenizerParts parts() const;

 private:
  bool adds(std::string_view role) const;

  const GgufFile& file_;
  const std::vector<std::string>& texts_;
  const std::vector<std::int32_t>* types_ = nullptr;
  std::unordered_map<std::string_view, std::uint32_t> ids_;
};

}  // namespace adze
