// What is compared: calibration sets with their draws, and the texts that judge.
//
// A set is text (recipe/text_set.h), from which draws are cut that share no window, or a folder of statistics, which is
// one draw of unknown text. Texts that judge are only ever read, never calibrated with: one that a set contains is an
// error (specification evaluation.md, rule 5).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "calibrate/calibration_set.h"

namespace adze {

/// NAME=PATH of a command line; PATH alone is named after its file.
struct NamedPath {
  std::string name;
  std::filesystem::path path;
};
/// Throws usage for an empty name or path, and for a name that is not one of letters, digits, '.', '_' and '-'.
NamedPath parse_named_path(const std::string& argument);
/// Throws usage where a name comes twice. `what`: "set".
void check_names(std::span<const NamedPath> paths, const char* what);

struct ComparedSet {
  std::string name;
  std::filesystem::path path;
  std::vector<TokenWindows> draws;  ///< empty: the path is a folder of statistics

  bool is_saved() const { return draws.empty(); }
};

struct JudgingText {
  std::string name;
  std::filesystem::path path;
  std::vector<std::int32_t> ids;  ///< without special tokens
};

/// What the tokens of a set are like, all its draws together.
struct TokenProfile {
  std::size_t tokens = 0;
  std::size_t distinct = 0;   ///< different ids
  double entropy = 0;         ///< of ids, bits
  double distinct_pairs = 0;  ///< different pairs of neighbours / pairs
  double repeated = 0;        ///< share of its passages (passage_tokens) that stand in the set before
};
TokenProfile token_profile(const ComparedSet& set);

/// How often each id occurs.
using TokenCounts = std::map<std::int32_t, std::size_t>;
TokenCounts count_tokens(const ComparedSet& set);

/// Jensen-Shannon divergence of two sets' ids, bits: 0 alike, 1 nothing in common.
double token_divergence(const TokenCounts& a, const TokenCounts& b);
/// Share of b's tokens whose id occurs in a.
double token_coverage(const TokenCounts& a, const TokenCounts& b);

/// What a text set is cut into.
struct DrawRule {
  std::size_t windows = 64;  ///< per draw
  std::size_t tokens = 512;
  std::size_t draws = 3;
  std::uint64_t seed = 1;
};

/// Throws bad_data: a set that is too short for its draws, with the numbers; missing_input.
ComparedSet load_set(const NamedPath& path, const Tokenizer& tokenizer, const DrawRule& rule);
/// `windows` windows of `window` tokens are used at most. Throws bad_data for a text that is shorter than one.
JudgingText load_text(const NamedPath& path, const Tokenizer& tokenizer, std::size_t windows, std::size_t window);

/// Throws bad_data when a set contains more than 0.1 % of a text's passages.
void check_disjoint(std::span<const ComparedSet> sets, std::span<const JudgingText> texts);

}  // namespace adze
