#include "export/gguf/piece_scores.h"

#include <functional>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include <fmt/format.h>

#include "base/error.h"
#include "text/space_boundary.h"
#include "text/utf8.h"

namespace adze {
namespace {

/// tokenizer.json's merges, as the places where each result is cut.
class MergeCuts {
 public:
  explicit MergeCuts(const Vocabulary& vocabulary) : vocabulary_(vocabulary) {
    for (std::size_t id = 0; id < vocabulary.tokens.size(); ++id)
      if (vocabulary.tokens[id].kind != TokenKind::unused) ids_.emplace(vocabulary.tokens[id].text, id);
    std::string last;
    for (const auto& [left, right] : vocabulary.merges) {
      std::string text = left + right;
      if (text != last && !order_.emplace(text, order_.size()).second)
        fail(ErrorKind::bad_data,
             "tokenizer.json: merges that make '{}' are not next to each other; GGUF runtimes rank results, not merges",
             text);
      pairs_.insert(left + '\0' + right);
      last = std::move(text);
    }
  }

  /// Rank among the results of merges; nothing for a token that no merge makes.
  std::optional<std::size_t> order(const std::string& text) const {
    const auto at = order_.find(text);
    return at == order_.end() ? std::nullopt : std::optional(at->second);
  }
  std::size_t results() const { return order_.size(); }

  /// Every pair that a runtime would join to `text` must be a merge.
  void check(const std::string& text) const {
    for (std::size_t cut = code_point_at(text, 0).length; cut < text.size(); cut += code_point_at(text, cut).length) {
      const std::string left = text.substr(0, cut), right = text.substr(cut);
      if (is_symbol(left) && is_symbol(right) && !pairs_.contains(left + '\0' + right))
        fail(ErrorKind::bad_data,
             "tokenizer.json does not merge '{}' and '{}', but '{}' is a token: GGUF runtimes would join them", left,
             right, text);
    }
  }

 private:
  /// What a runtime may find beside something: a normal token or any single character.
  bool is_symbol(const std::string& text) const {
    if (code_point_at(text, 0).length == text.size()) return true;
    const auto at = ids_.find(text);
    return at != ids_.end() && vocabulary_.tokens[at->second].kind == TokenKind::normal;
  }

  const Vocabulary& vocabulary_;
  std::unordered_map<std::string_view, std::size_t> ids_;
  std::unordered_map<std::string, std::size_t> order_;
  std::unordered_set<std::string> pairs_;
};

std::size_t count_bytes(const Vocabulary& vocabulary) {
  std::size_t count = 0;
  for (const TokenEntry& token : vocabulary.tokens) count += token.kind == TokenKind::byte ? 1 : 0;
  return count;
}

struct Objection {
  bool (*holds)(const Vocabulary&);
  std::string_view words;
};
constexpr Objection kObjections[] = {
    {[](const Vocabulary& v) { return v.characters.others; },
     "tokenizer.json changes or splits text by rules that GGUF runtimes do not have for SentencePiece-style BPE"},
    {[](const Vocabulary& v) { return !v.characters.marks_spaces; },
     "tokenizer.json leaves spaces as they are; GGUF runtimes turn them into U+2581"},
    {[](const Vocabulary& v) { return v.ignore_merges; },
     "tokenizer.json has ignore_merges, which GGUF runtimes do not have for SentencePiece-style BPE"},
    {[](const Vocabulary& v) { return !v.byte_fallback || count_bytes(v) != 256; },
     "tokenizer.json has no byte_fallback with all of <0x00> to <0xFF>; GGUF runtimes need these"},
};

/// Text of more than a mark that has one inside: words that start at marks never make it.
bool crosses_words(const TokenEntry& token) {
  return token.kind == TokenKind::normal && token.text.find(kMetaspace, 1) != std::string::npos;
}

}  // namespace

void check_character_rules(const Vocabulary& vocabulary) {
  for (const Objection& objection : kObjections)
    if (objection.holds(vocabulary)) fail(ErrorKind::bad_data, "{}", objection.words);
  if (!vocabulary.characters.splits_at_marks) return;
  for (const TokenEntry& token : vocabulary.tokens)
    if (crosses_words(token))
      fail(ErrorKind::bad_data,
           "tokenizer.json splits text at U+2581, but token '{}' has one inside: GGUF runtimes do not split",
           token.text);
}

std::vector<float> piece_scores(const Vocabulary& vocabulary) {
  const MergeCuts merges(vocabulary);
  std::vector<float> scores;
  std::size_t next = merges.results();
  for (const TokenEntry& token : vocabulary.tokens) {
    if (token.kind == TokenKind::normal) merges.check(token.text);
    const auto order = merges.order(token.text);
    const bool is_numbered = order || token.kind == TokenKind::normal || token.kind == TokenKind::user_defined;
    scores.push_back(is_numbered ? -static_cast<float>(order ? *order : next++) : 0.0f);
  }
  return scores;
}

std::string character_remark(const Vocabulary& vocabulary) {
  switch (vocabulary.characters.prefix) {
    case SpacePrefix::never:
    case SpacePrefix::always:
      return "";
    case SpacePrefix::always_if_missing:
      return "GGUF runtimes put a space before every text, tokenizer.json only before text that has none";
    case SpacePrefix::first_if_missing:
      break;
  }
  return "GGUF runtimes put a space before every text and after every special token, tokenizer.json only before a text "
         "that starts with none";
}

}  // namespace adze
