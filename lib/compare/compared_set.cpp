#include "compare/compared_set.h"

#include <algorithm>
#include <cmath>
#include <unordered_set>

#include "base/error.h"
#include "base/hash.h"
#include "base/matrix.h"
#include "base/parallel.h"
#include "calibrate/statistics_folder.h"

namespace adze {
namespace {

constexpr double kMostShared = 0.001;

template <typename Body>
void for_windows(const ComparedSet& set, Body&& body) {
  for (const TokenWindows& draw : set.draws)
    for (std::size_t w = 0; w < draw.count(); ++w) body(draw.window(w));
}

std::size_t total(const TokenCounts& counts) {
  std::size_t sum = 0;
  for (const auto& [id, count] : counts) sum += count;
  return sum;
}

double share_of(const TokenCounts& counts, std::int32_t id, std::size_t all) {
  const auto at = counts.find(id);
  return at == counts.end() ? 0 : static_cast<double>(at->second) / static_cast<double>(all);
}

std::uint64_t hash_of(std::span<const std::int32_t> ids) {
  const auto bytes = std::as_bytes(ids);
  return hash64({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

/// Share of passages, one behind the other in every window, that occurred in an earlier place. A window begins with the
/// same special tokens as the others, so passages are counted from its end.
double repeated_share(const ComparedSet& set) {
  std::unordered_set<std::uint64_t> known;
  std::size_t passages = 0, repeated = 0;
  for_windows(set, [&](std::span<const std::int32_t> window) {
    const std::size_t length = passage_tokens(window.size());
    for (std::size_t end = window.size(); end >= length; end -= length, ++passages)
      repeated += !known.insert(hash_of(window.subspan(end - length, length))).second;
  });
  return passages == 0 ? 0 : static_cast<double>(repeated) / static_cast<double>(passages);
}

double distinct_pair_share(const ComparedSet& set) {
  std::unordered_set<std::uint64_t> pairs;
  std::size_t all = 0;
  for_windows(set, [&](std::span<const std::int32_t> window) {
    for (std::size_t t = 0; t + 1 < window.size(); ++t, ++all)
      pairs.insert(std::uint64_t{static_cast<std::uint32_t>(window[t])} << 32 |
                   static_cast<std::uint32_t>(window[t + 1]));
  });
  return all == 0 ? 0 : static_cast<double>(pairs.size()) / static_cast<double>(all);
}

}  // namespace

NamedPath parse_named_path(const std::string& argument) {
  const std::size_t sign = argument.find('=');
  const std::filesystem::path path = sign == std::string::npos ? argument : argument.substr(sign + 1);
  const std::string name = sign == std::string::npos ? path.stem().string() : argument.substr(0, sign);
  const auto is_plain = [](unsigned char c) { return std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-'; };
  if (name.empty() || path.empty() || name.front() == '.' || !std::ranges::all_of(name, is_plain))
    fail(ErrorKind::usage, "'{}' is no NAME=PATH; names are made of letters, digits, '.', '_' and '-'", argument);
  return {name, path};
}

void check_names(std::span<const NamedPath> paths, const char* what) {
  std::vector<std::string> names;
  for (const NamedPath& path : paths) {
    if (std::ranges::find(names, path.name) != names.end())
      fail(ErrorKind::usage, "two {}s are called '{}'; give one another name: NAME=PATH", what, path.name);
    names.push_back(path.name);
  }
}

TokenCounts count_tokens(const ComparedSet& set) {
  TokenCounts counts;
  for_windows(set, [&](std::span<const std::int32_t> window) {
    for (const std::int32_t id : window) ++counts[id];
  });
  return counts;
}

TokenProfile token_profile(const ComparedSet& set) {
  const TokenCounts counts = count_tokens(set);
  TokenProfile profile;
  profile.tokens = total(counts);
  profile.distinct = counts.size();
  for (const auto& [id, count] : counts) {
    const double share = static_cast<double>(count) / static_cast<double>(profile.tokens);
    profile.entropy -= share * std::log2(share);
  }
  profile.distinct_pairs = distinct_pair_share(set);
  profile.repeated = repeated_share(set);
  return profile;
}

double token_divergence(const TokenCounts& a, const TokenCounts& b) {
  const std::size_t all_a = total(a), all_b = total(b);
  TokenCounts either = a;
  either.insert(b.begin(), b.end());
  double divergence = 0;
  for (const auto& [id, count] : either) {
    const double p = share_of(a, id, all_a), q = share_of(b, id, all_b), middle = (p + q) / 2;
    if (p > 0) divergence += 0.5 * p * std::log2(p / middle);
    if (q > 0) divergence += 0.5 * q * std::log2(q / middle);
  }
  return divergence;
}

double token_coverage(const TokenCounts& a, const TokenCounts& b) {
  std::size_t covered = 0;
  for (const auto& [id, count] : b)
    if (a.contains(id)) covered += count;
  return static_cast<double>(covered) / static_cast<double>(total(b));
}

ComparedSet load_set(const NamedPath& path, const Tokenizer& tokenizer, const DrawRule& rule) {
  if (is_statistics_folder(path.path)) return {path.name, path.path, {}};
  const std::vector<std::int32_t> stream = tokenize_set(load_text_set(path.path), tokenizer);
  const WindowRule windows{rule.windows, rule.tokens, rule.seed};
  return {path.name, path.path,
          cut_draws(stream, tokenizer.vocabulary().prefix_ids, windows, rule.draws, path.path.string())};
}

JudgingText load_text(const NamedPath& path, const Tokenizer& tokenizer, std::size_t windows, std::size_t window) {
  JudgingText text{path.name, path.path, tokenize_set(load_text_set(path.path), tokenizer)};
  if (text.ids.size() < window)
    fail(ErrorKind::bad_data, "{}: {} tokens, one window of {} is needed", path.path.string(), text.ids.size(), window);
  text.ids.resize(std::min(text.ids.size(), windows * window));
  return text;
}

void check_disjoint(std::span<const ComparedSet> sets, std::span<const JudgingText> texts) {
  for (const ComparedSet& set : sets) {
    MatrixD shares(set.draws.size(), texts.size());
    parallel_for(set.draws.size(), [&](std::size_t r) {
      const Passages passages(set.draws[r]);
      for (std::size_t t = 0; t < texts.size(); ++t) shares(r, t) = passages.share_of(texts[t].ids);
    });
    for (std::size_t t = 0; t < texts.size(); ++t) {
      double shared = 0;
      for (std::size_t r = 0; r < shares.rows(); ++r) shared += shares(r, t);
      if (shared > kMostShared)
        fail(ErrorKind::bad_data,
             "{:.1f} % of the text '{}' ({}) stands in the calibration set '{}' ({}): a judgement on text that was "
             "calibrated with is worthless; judge on other text",
             100 * shared, texts[t].name, texts[t].path.string(), set.name, set.path.string());
    }
  }
}

}  // namespace adze
