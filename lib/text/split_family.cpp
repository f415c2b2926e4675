#include "text/split_family.h"

#include <array>

#include "text/vocabulary.h"

// The pieces that the patterns of the GPT-4 kind share.
#define ADZE_CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define ADZE_SYMBOLS_AND_SPACES "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define ADZE_PATH_SYMBOLS_AND_SPACES "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define ADZE_CAPITALIZED "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+"
#define ADZE_UPPER_CASE "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*"

namespace adze {
namespace {

struct FamilyInfo {
  SplitFamily family;
  std::string_view name;
  std::string_view pattern;
};
constexpr std::array kFamilies = {
    FamilyInfo{SplitFamily::gpt2, "gpt2",
               "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"},
    FamilyInfo{SplitFamily::llama3, "llama3",
               ADZE_CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}" ADZE_SYMBOLS_AND_SPACES},
    FamilyInfo{SplitFamily::qwen2, "qwen2",
               ADZE_CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" ADZE_SYMBOLS_AND_SPACES},
    FamilyInfo{SplitFamily::qwen35, "qwen35",
               ADZE_CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*"
                                 "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
    FamilyInfo{SplitFamily::tekken, "tekken",
               ADZE_CAPITALIZED "|" ADZE_UPPER_CASE "|\\p{N}" ADZE_PATH_SYMBOLS_AND_SPACES},
    FamilyInfo{SplitFamily::o200k, "o200k",
               ADZE_CAPITALIZED ADZE_CONTRACTIONS "?|" ADZE_UPPER_CASE ADZE_CONTRACTIONS
                                                  "?|\\p{N}{1,3}" ADZE_PATH_SYMBOLS_AND_SPACES},
    FamilyInfo{SplitFamily::digits_gpt2, "digits+gpt2", ""},
    FamilyInfo{SplitFamily::deepseek_v3, "deepseek-v3", ""},
    FamilyInfo{SplitFamily::other, "other", ""},
};

/// One name that runtimes know, and the rules it stands for there. Read in both directions: a family is written under
/// its first name (the one whose other defaults are the plainest), any of the names is read.
struct PreName {
  SplitFamily family;
  bool ignore_merges;   ///< what the runtime does
  bool either_written;  ///< written for vocabularies with and without ignore_merges
  std::string_view name;
};
constexpr std::array kPreNames = {
    PreName{SplitFamily::gpt2, false, false, "gpt-2"},
    PreName{SplitFamily::digits_gpt2, false, false, "smollm"},
    PreName{SplitFamily::llama3, true, false, "llama-bpe"},
    PreName{SplitFamily::llama3, false, false, "smaug-bpe"},
    PreName{SplitFamily::qwen2, false, false, "qwen2"},
    PreName{SplitFamily::qwen35, false, false, "qwen35"},
    PreName{SplitFamily::tekken, true, true, "tekken"},
    PreName{SplitFamily::o200k, false, true, "gpt-4o"},
    PreName{SplitFamily::deepseek_v3, false, false, "deepseek-v3"},
    // Other names of the same rules.
    PreName{SplitFamily::gpt2, false, false, "phi-2"},
    PreName{SplitFamily::gpt2, false, false, "mpt"},
    PreName{SplitFamily::gpt2, false, false, "olmo"},
    PreName{SplitFamily::gpt2, false, false, "jais"},
    PreName{SplitFamily::gpt2, false, false, "gigachat"},
    PreName{SplitFamily::digits_gpt2, false, false, "starcoder"},
    PreName{SplitFamily::digits_gpt2, false, false, "refact"},
    PreName{SplitFamily::digits_gpt2, false, false, "command-r"},
    PreName{SplitFamily::digits_gpt2, false, false, "codeshell"},
    PreName{SplitFamily::digits_gpt2, false, false, "exaone"},
    PreName{SplitFamily::llama3, true, false, "llama3"},
    PreName{SplitFamily::llama3, true, false, "llama-v3"},
    PreName{SplitFamily::llama3, true, false, "falcon3"},
    PreName{SplitFamily::llama3, true, false, "pixtral"},
    PreName{SplitFamily::llama3, false, false, "dbrx"},
    PreName{SplitFamily::llama3, false, false, "chatglm-bpe"},
    PreName{SplitFamily::llama3, false, false, "glm4"},
    PreName{SplitFamily::qwen2, false, false, "stablelm2"},
    PreName{SplitFamily::qwen2, false, false, "deepseek-r1-qwen"},
    PreName{SplitFamily::o200k, false, false, "llama4"},
};

}  // namespace

std::string_view name_of(BpeAlphabet kind) { return kind == BpeAlphabet::bytes ? "byte-level" : "SentencePiece-style"; }

std::string_view name_of(SplitFamily family) {
  for (const FamilyInfo& info : kFamilies)
    if (info.family == family) return info.name;
  return "other";
}

std::string_view split_pattern(SplitFamily family) {
  for (const FamilyInfo& info : kFamilies)
    if (info.family == family) return info.pattern;
  return {};
}

std::string with_escaped_newlines(std::string_view pattern) {
  std::string out;
  for (const char c : pattern) {
    if (c == '\r')
      out += "\\r";
    else if (c == '\n')
      out += "\\n";
    else
      out += c;
  }
  return out;
}

std::optional<SplitFamily> family_of_pattern(std::string_view pattern) {
  if (pattern.empty()) return std::nullopt;
  const std::string plain = with_escaped_newlines(pattern);
  for (const FamilyInfo& info : kFamilies)
    if (info.pattern == plain) return info.family;
  return std::nullopt;
}

std::optional<std::string_view> gguf_pre_name(const Vocabulary& vocabulary) {
  for (const PreName& row : kPreNames)
    if (row.family == vocabulary.split && (row.either_written || row.ignore_merges == vocabulary.ignore_merges))
      return row.name;
  return std::nullopt;
}

std::optional<SplitRules> rules_of_gguf_pre(std::string_view name) {
  for (const PreName& row : kPreNames)
    if (row.name == name) return SplitRules{row.family, row.ignore_merges};
  return std::nullopt;
}

std::string known_gguf_pre_names() {
  std::string names;
  for (const PreName& row : kPreNames) names.append(names.empty() ? "" : ", ").append(row.name);
  return names;
}

}  // namespace adze
