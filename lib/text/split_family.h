// The known split patterns and, for those that most models use, hand-written scanners that find the same words many
// times faster than a regular expression engine. Tests hold each scanner against PCRE2.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "text/splitter.h"
#include "text/vocabulary.h"

namespace adze {

/// The pattern of a family that one regular expression defines, in Oniguruma syntax; empty for the others.
std::string_view split_pattern(SplitFamily family);

/// The pattern with raw CR and LF characters written as the escapes \r and \n: files have either.
std::string with_escaped_newlines(std::string_view pattern);

/// The family with this pattern (newlines raw or escaped).
std::optional<SplitFamily> family_of_pattern(std::string_view pattern);

/// What one value of tokenizer.ggml.pre stands for.
struct SplitRules {
  SplitFamily family = SplitFamily::other;
  bool ignore_merges = false;
};

/// The rules that runtimes know under this name; nothing for a name whose rules are none of our families. The inverse
/// of gguf_pre_name(), from the same table.
std::optional<SplitRules> rules_of_gguf_pre(std::string_view name);
/// All names that rules_of_gguf_pre() knows, for messages: "gpt-2, smollm, ...".
std::string known_gguf_pre_names();

/// The field "pre_tokenizer" of a byte-level tokenizer.json that splits as this family does (not `other`).
nlohmann::json pre_tokenizer_json(SplitFamily family);

/// The scanner of a family (pieces are isolated matches); null when the family has none.
std::unique_ptr<const Splitter> make_scanner(SplitFamily family);

}  // namespace adze
