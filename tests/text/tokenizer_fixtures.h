// Tokenizers for tests: the bundled one, variants of it with other parts, and a toy with the 256 bytes and a few
// merges.
#pragma once

#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/json.h"
#include "text/byte_alphabet.h"
#include "text/split_family.h"
#include "text/tokenizer.h"

namespace adze::test {

using nlohmann::json;

inline json bundled_json() {
  const std::string path = ADZE_SOURCE_DIR "/tests/models/demo-llama/tokenizer.json";
  return parse_json(read_file(path), path);
}

inline json byte_level(bool use_regex) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", use_regex}};
}

/// Sequence[Split(pattern, Isolated), ByteLevel].
inline json split_then_bytes(std::string_view pattern) {
  const json split = {
      {"type", "Split"}, {"pattern", {{"Regex", std::string(pattern)}}}, {"behavior", "Isolated"}, {"invert", false}};
  return {{"type", "Sequence"}, {"pretokenizers", {split, byte_level(false)}}};
}

inline json added_token(int id, std::string_view content, bool special) {
  return {{"id", id},
          {"content", std::string(content)},
          {"single_word", false},
          {"lstrip", false},
          {"rstrip", false},
          {"normalized", false},
          {"special", special}};
}

/// Ids 0-255: the byte of that value; 256-264: he, ll, hell, hello, Ġw, or, Ġwor, ld, Ġworld; 265: <|start|>, special
/// and put before each text. Llama-3 split.
inline json toy_json() {
  json vocab = json::object();
  for (int byte = 0; byte < 256; ++byte) vocab[to_byte_alphabet(std::string(1, static_cast<char>(byte)))] = byte;
  int id = 256;
  for (const char* text : {"he", "ll", "hell", "hello", "Ġw", "or", "Ġwor", "ld", "Ġworld"}) vocab[text] = id++;
  const json merges = {"h e", "l l", "he ll", "hell o", "Ġ w", "o r", "Ġw or", "l d", "Ġwor ld"};
  const json start = {{"SpecialToken", {{"id", "<|start|>"}, {"type_id", 0}}}};
  const json sequence = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  const json entry = {{"id", "<|start|>"}, {"ids", {265}}, {"tokens", {"<|start|>"}}};
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", json::array({added_token(265, "<|start|>", true)})},
          {"normalizer", nullptr},
          {"pre_tokenizer", split_then_bytes(split_pattern(SplitFamily::llama3))},
          {"post_processor",
           {{"type", "TemplateProcessing"},
            {"single", {start, sequence}},
            {"pair", json::array()},
            {"special_tokens", {{"<|start|>", entry}}}}},
          {"decoder", byte_level(true)},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}}}};
}

inline Tokenizer load(const json& root) { return Tokenizer::from_json(root.dump(), "tokenizer.json"); }

}  // namespace adze::test
