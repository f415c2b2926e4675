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

struct PreName {
  SplitFamily family;
  std::optional<bool> ignore_merges;  ///< nothing: either
  std::string_view name;
};
/// Several names have the rules of one family; this is the one whose other defaults are the plainest.
constexpr std::array kPreNames = {
    PreName{SplitFamily::gpt2, false, "gpt-2"},
    PreName{SplitFamily::digits_gpt2, false, "smollm"},
    PreName{SplitFamily::llama3, true, "llama-bpe"},
    PreName{SplitFamily::llama3, false, "smaug-bpe"},
    PreName{SplitFamily::qwen2, false, "qwen2"},
    PreName{SplitFamily::qwen35, false, "qwen35"},
    PreName{SplitFamily::tekken, std::nullopt, "tekken"},
    PreName{SplitFamily::o200k, std::nullopt, "gpt-4o"},
    PreName{SplitFamily::deepseek_v3, false, "deepseek-v3"},
};

}  // namespace

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
    if (row.family == vocabulary.split &&
        row.ignore_merges.value_or(vocabulary.ignore_merges) == vocabulary.ignore_merges)
      return row.name;
  return std::nullopt;
}

}  // namespace adze
