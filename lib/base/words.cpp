#include "base/words.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <numeric>

#include <fmt/format.h>

namespace adze {
namespace {

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t above = row[j + 1];
      row[j + 1] = std::min({above + 1, row[j] + 1, diagonal + (a[i] != b[j])});
      diagonal = above;
    }
  }
  return row[b.size()];
}

struct ByteUnit {
  std::string_view name;
  double bytes;
};
constexpr std::array kByteUnits{
    ByteUnit{"", 1},      ByteUnit{"B", 1},         ByteUnit{"kB", 1e3},        ByteUnit{"KB", 1e3},
    ByteUnit{"MB", 1e6},  ByteUnit{"GB", 1e9},      ByteUnit{"TB", 1e12},       ByteUnit{"KiB", 0x1p10},
    ByteUnit{"MiB", 0x1p20}, ByteUnit{"GiB", 0x1p30}, ByteUnit{"TiB", 0x1p40}};

}  // namespace

std::optional<std::string> nearest_word(std::string_view word, std::span<const std::string> candidates) {
  std::optional<std::string> best;
  std::size_t best_distance = std::max<std::size_t>(2, word.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    const std::size_t distance = edit_distance(word, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

std::string suggestion(std::string_view word, std::span<const std::string> candidates) {
  const auto best = nearest_word(word, candidates);
  return best ? fmt::format("; did you mean '{}'?", *best) : std::string();
}

bool glob_match(std::string_view pattern, std::string_view name) {
  // reach[i]: the pattern so far matches the first i characters of the name. Linear in both, however many stars.
  std::vector<bool> reach(name.size() + 1, false);
  reach[0] = true;
  while (!pattern.empty()) {
    std::vector<bool> next(name.size() + 1, false);
    const bool star = pattern[0] == '*';
    const bool any = pattern.starts_with("**");
    for (std::size_t i = 0; i <= name.size(); ++i) {
      if (star) {
        next[i] = reach[i] || (i > 0 && next[i - 1] && (any || name[i - 1] != '.'));
      } else if (i > 0) {
        next[i] = reach[i - 1] && (pattern[0] == '?' || pattern[0] == name[i - 1]);
      }
    }
    reach = std::move(next);
    pattern.remove_prefix(any ? 2 : 1);
  }
  return reach[name.size()];
}

std::string bytes_in_words(std::uint64_t bytes) {
  constexpr std::array<std::string_view, 5> kNames{"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1024 && unit + 1 < kNames.size()) {
    value /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.2f} {}", value, kNames[unit]);
}

std::optional<std::uint64_t> parse_bytes(std::string_view text) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (error != std::errc() || !(number >= 0)) return std::nullopt;
  std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  while (unit.starts_with(' ')) unit.remove_prefix(1);
  for (const ByteUnit& known : kByteUnits) {
    if (known.name != unit) continue;
    const double bytes = std::round(number * known.bytes);
    if (bytes >= 0x1p63) return std::nullopt;
    return static_cast<std::uint64_t>(bytes);
  }
  return std::nullopt;
}

std::string join_words(std::span<const std::string> words) {
  std::string text;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (i > 0) text += i + 1 == words.size() ? " and " : ", ";
    text += words[i];
  }
  return text;
}

}  // namespace adze
