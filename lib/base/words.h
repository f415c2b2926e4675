// Names and quantities in words: the nearest known name for a suggestion, glob patterns, byte counts.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace adze {

/// The candidate with the smallest edit distance to `word`, if it is near enough to be what was meant.
std::optional<std::string> nearest_word(std::string_view word, std::span<const std::string> candidates);
/// "; did you mean 'X'?" or "".
std::string suggestion(std::string_view word, std::span<const std::string> candidates);

/// Dotted-name glob: `*` matches within one segment, `**` matches any number of characters, `?` one character.
/// The whole name must match. "layers.*.mlp.down_proj", "layers.**".
bool glob_match(std::string_view pattern, std::string_view name);

/// "4.2 MiB", "512 B".
std::string bytes_in_words(std::uint64_t bytes);
/// "4 GiB", "500MB", "1234" (bytes). Units B, kB, MB, GB, KiB, MiB, GiB. Nothing when malformed or negative.
std::optional<std::uint64_t> parse_bytes(std::string_view text);
/// "a, b and c".
std::string join_words(std::span<const std::string> words);

}  // namespace adze
