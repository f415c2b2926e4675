// Text sets: which texts calibration and evaluation read, and in which order. A text set is a YAML descriptor
//
//   adze_text: 1
//   description: five domains, original texts
//   licence: Apache-2.0
//   texts:
//     - { file: calib/code.txt }                   # plain UTF-8
//     - { file: chats.jsonl, field: text }         # one JSON object per line; this field of each
//     - { file: ids.json, ids: true }              # token ids, tokenized elsewhere
//                                                  # domain: NAME in each: what adze eval judges on its own
//   interleave: 2000                               # take turns, this many characters at a time; without it: in order
//
// or directly one text: a path ending in .txt, .jsonl (field `text`) or .json (ids). Only the descriptor is read here;
// whether the texts exist is found out by who reads them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "recipe/diagnostics.h"

namespace adze {

enum class TextKind : std::uint8_t { plain, jsonl, ids };

struct TextSpec {
  std::filesystem::path file;  ///< resolved against the descriptor's folder
  TextKind kind = TextKind::plain;
  std::string field;   ///< of jsonl
  std::string domain;  ///< empty: none; of all texts of a set or of none
  Mark where;          ///< of the file's name; nowhere for a direct path
};

struct TextSet {
  std::string origin;
  std::string description;
  std::string licence;
  std::vector<TextSpec> texts;              ///< never empty
  std::optional<std::uint64_t> interleave;  ///< characters per turn; nothing: one text after the other
  std::shared_ptr<const Source> source;     ///< null for a direct path
};

/// A descriptor (.yaml, .yml) or one text. Throws Error(bad_recipe) with every problem of the descriptor or for an
/// unknown ending; missing_input and io for the descriptor only.
TextSet load_text_set(const std::filesystem::path& path);
TextSet parse_text_set(std::string text, std::string origin);

}  // namespace adze
