// What is done to a piece of text before it is cut into words: Unicode form C, a prefix, literal replacements.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace adze {

enum class NormalizerKind : std::uint8_t {
  nfc,
  prepend,  ///< `content` before every piece that is not empty
  replace,  ///< every `pattern` becomes `content`
};

struct NormalizerStep {
  NormalizerKind kind = NormalizerKind::nfc;
  std::string pattern;  ///< not empty for replace
  std::string content;
};

/// Immutable and safe from any thread.
class Normalizer {
 public:
  Normalizer() = default;
  /// Field "normalizer": null, NFC, Prepend, Replace of a string, or a Sequence of these. Throws bad_data naming any
  /// other type.
  explicit Normalizer(const nlohmann::json* value);

  const std::vector<NormalizerStep>& steps() const { return steps_; }
  bool has(NormalizerKind kind) const;

  /// Normalized form of well-formed text; lies in `buffer` when it differs from `text`.
  std::string_view apply(std::string_view text, std::string& buffer) const;

 private:
  std::vector<NormalizerStep> steps_;
};

/// `text` with every occurrence of `pattern` (not empty) replaced, from the left.
std::string replace_all(std::string_view text, std::string_view pattern, std::string_view content);

}  // namespace adze
