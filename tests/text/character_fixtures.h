// SentencePiece-style tokenizers for tests: a vocabulary of characters with byte tokens, its merges learnt from a text
// and completed as converters do it (every split of every piece into two pieces, by rank of the piece).
#pragma once

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "text/tokenizer_fixtures.h"
#include "text/utf8.h"

namespace adze::test {

inline const std::string kMark = "\xE2\x96\x81";  // U+2581

using Word = std::vector<std::string>;

/// Words of a text with the mark in front, and how often each is there; runs of spaces are words of marks.
inline std::map<Word, std::size_t> count_words(std::string_view text) {
  std::map<Word, std::size_t> words;
  Word word;
  for (std::size_t pos = 0; pos < text.size();) {
    const std::size_t length = code_point_at(text, pos).length;
    std::string c(text.substr(pos, length));
    pos += length;
    if (c == " ") c = kMark;
    if (c == kMark && !word.empty() && word.back() != kMark) words[std::exchange(word, {})]++;
    word.push_back(std::move(c));
  }
  if (!word.empty()) words[word]++;
  return words;
}

inline Word merged(const Word& word, const std::string& left, const std::string& right) {
  Word out;
  for (std::size_t i = 0; i < word.size(); ++i) {
    const bool here = i + 1 < word.size() && word[i] == left && word[i + 1] == right;
    out.push_back(here ? left + right : word[i]);
    i += here ? 1 : 0;
  }
  return out;
}

/// Pieces of two characters and more, most frequent pair first: plain byte-pair training.
inline std::vector<std::string> train_pieces(std::string_view text, std::size_t count) {
  std::map<Word, std::size_t> words = count_words(text);
  std::vector<std::string> pieces;
  while (pieces.size() < count) {
    std::map<std::pair<std::string, std::string>, std::size_t> pairs;
    for (const auto& [word, times] : words)
      for (std::size_t i = 0; i + 1 < word.size(); ++i) pairs[{word[i], word[i + 1]}] += times;
    if (pairs.empty()) break;
    const auto best = std::ranges::max_element(pairs, {}, [](const auto& entry) { return entry.second; });
    const auto [left, right] = best->first;
    if (std::ranges::find(pieces, left + right) == pieces.end()) pieces.push_back(left + right);
    std::map<Word, std::size_t> next;
    for (const auto& [word, times] : words) next[merged(word, left, right)] += times;
    words = std::move(next);
  }
  return pieces;
}

inline json added_flagged(int id, std::string_view content, bool special, const char* flag) {
  json token = added_token(id, content, special);
  if (*flag != 0) token[flag] = true;
  return token;
}

/// [Prepend, Replace] as in Llama-2's files.
inline json llama2_normalizer() {
  return {{"type", "Sequence"},
          {"normalizers",
           {{{"type", "Prepend"}, {"prepend", kMark}},
            {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kMark}}}}};
}

inline json metaspace(const char* scheme, bool split) {
  return {{"type", "Metaspace"}, {"replacement", kMark}, {"prepend_scheme", scheme}, {"split", split}};
}

inline json llama2_decoder() {
  return {{"type", "Sequence"},
          {"decoders",
           {{{"type", "Replace"}, {"pattern", {{"String", kMark}}}, {"content", " "}},
            {{"type", "ByteFallback"}},
            {{"type", "Fuse"}},
            {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}}}};
}

/// <unk> 0, <s> 1, </s> 2, bytes 3 to 258, then pieces by rank, then single characters; <s> before each text.
inline json llama2_json(const std::vector<std::string>& pieces) {
  std::vector<std::string> texts = {"<unk>", "<s>", "</s>"};
  for (int byte = 0; byte < 256; ++byte) texts.push_back(fmt::format("<0x{:02X}>", byte));
  texts.insert(texts.end(), pieces.begin(), pieces.end());
  std::set<std::string> characters = {kMark};
  for (const std::string& piece : pieces)
    for (std::size_t pos = 0; pos < piece.size(); pos += code_point_at(piece, pos).length)
      characters.insert(piece.substr(pos, code_point_at(piece, pos).length));
  texts.insert(texts.end(), characters.begin(), characters.end());
  json vocab = json::object(), merges = json::array();
  for (std::size_t id = 0; id < texts.size(); ++id) vocab[texts[id]] = id;
  for (const std::string& piece : pieces)
    for (std::size_t cut = 1; cut < piece.size(); ++cut)
      if (vocab.contains(piece.substr(0, cut)) && vocab.contains(piece.substr(cut)))
        merges.push_back(json::array({piece.substr(0, cut), piece.substr(cut)}));
  const json start = {{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}};
  const json sequence = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  return {{"version", "1.0"},
          {"added_tokens", {added_token(0, "<unk>", true), added_token(1, "<s>", true), added_token(2, "</s>", true)}},
          {"normalizer", llama2_normalizer()},
          {"pre_tokenizer", nullptr},
          {"post_processor",
           {{"type", "TemplateProcessing"},
            {"single", {start, sequence}},
            {"pair", json::array()},
            {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", {1}}, {"tokens", {"<s>"}}}}}}}},
          {"decoder", llama2_decoder()},
          {"model",
           {{"type", "BPE"},
            {"unk_token", "<unk>"},
            {"fuse_unk", true},
            {"byte_fallback", true},
            {"ignore_merges", false},
            {"vocab", vocab},
            {"merges", merges}}}};
}

/// A vocabulary of English, some other scripts and runs of spaces.
inline const std::vector<std::string>& small_pieces() {
  static const std::vector<std::string> pieces = [] {
    std::string text =
        read_file(ADZE_SOURCE_DIR "/calibration_data/calib/narrative.txt").substr(0, 40'000) +
        "        if (x == 1) {\n            y = 2;\n        }\n    don't naïve café 日本語 日本 中文 Привет, мир ";
    for (int i = 0; i < 30; ++i) text += " 1,000,000  3.14159   \n\n    return";
    return train_pieces(replace_invalid_utf8(text), 500);
  }();
  return pieces;
}

}  // namespace adze::test
