#include "calibrate/calibration_set.h"

#include <algorithm>
#include <numeric>

#include <nlohmann/json.hpp>

#include "base/checked.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/json_lines.h"
#include "base/random.h"
#include "text/utf8.h"

namespace adze {
namespace {

/// Offset of the first byte that is not part of well-formed UTF-8.
std::size_t first_invalid_byte(std::string_view text) {
  std::size_t low = 0;  // invariant: the first `low` bytes are well-formed
  while (low < text.size()) {
    const auto lead = static_cast<unsigned char>(text[low]);
    const std::size_t length = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    if (!is_valid_utf8(text.substr(low, length))) return low;
    low += length;
  }
  return low;
}

void require_utf8(std::string_view text, const std::filesystem::path& file) {
  if (is_valid_utf8(text)) return;
  fail(ErrorKind::bad_data, "{}: byte {}: not UTF-8; convert it first, e.g. iconv -f LATIN1 -t UTF-8", file.string(),
       first_invalid_byte(text));
}

std::string read_plain(const TextSpec& spec) {
  std::string text = read_file(spec.file);
  require_utf8(text, spec.file);
  return text;
}

std::string read_jsonl(const TextSpec& spec) {
  std::string text;
  for_each_json_line(read_file(spec.file), spec.file.string(), [&](const JsonLine& line) {
    if (!line.value.is_object() || !line.value.contains(spec.field) || !line.value[spec.field].is_string())
      fail(ErrorKind::bad_data, "{}: no text in field '{}'", line.origin, spec.field);
    text += line.value[spec.field].get<std::string>();
    text += '\n';
  });
  return text;
}

std::vector<std::int32_t> read_ids(const TextSpec& spec, std::size_t vocabulary) {
  const nlohmann::json ids = parse_json(read_file(spec.file), spec.file.string());
  if (!ids.is_array()) fail(ErrorKind::bad_data, "{}: not an array of token ids", spec.file.string());
  std::vector<std::int32_t> stream;
  for (const nlohmann::json& id : ids) {
    if (!id.is_number_unsigned() || id.get<std::uint64_t>() >= vocabulary)
      fail(ErrorKind::bad_data, "{}: entry {} is {}, not a token id below {}", spec.file.string(), stream.size(),
           id.dump(), vocabulary);
    stream.push_back(id.get<std::int32_t>());
  }
  return stream;
}

/// The next `count` characters of `text` from `position` on.
std::string_view next_characters(std::string_view text, std::size_t position, std::uint64_t count) {
  std::size_t end = position;
  for (std::uint64_t i = 0; i < count && end < text.size(); ++i) end += code_point_at(text, end).length;
  return text.substr(position, end - position);
}

/// Texts take turns of `characters` until each is used up.
std::string interleave(const std::vector<std::string>& texts, std::uint64_t characters) {
  std::vector<std::size_t> positions(texts.size(), 0);
  std::string joined;
  for (bool any = true; any;) {
    any = false;
    for (std::size_t t = 0; t < texts.size(); ++t) {
      const std::string_view piece = next_characters(texts[t], positions[t], characters);
      joined += piece;
      positions[t] += piece.size();
      any = any || !piece.empty();
    }
  }
  return joined;
}

std::vector<std::int32_t> tokenize_texts(const TextSet& set, const Tokenizer& tokenizer) {
  std::vector<std::string> texts;
  for (const TextSpec& spec : set.texts) {
    texts.push_back(spec.kind == TextKind::plain ? read_plain(spec) : read_jsonl(spec));
    if (texts.back().empty()) fail(ErrorKind::bad_data, "{}: the text is empty", spec.file.string());
  }
  const std::string joined =
      set.interleave ? interleave(texts, *set.interleave) : std::accumulate(texts.begin(), texts.end(), std::string());
  return tokenizer.encode(joined, /*add_special=*/false, SpecialText::plain);
}

/// `wanted` of `available` window numbers at random, without repetition.
std::vector<std::size_t> shuffled_windows(std::size_t available, std::size_t wanted, std::uint64_t seed,
                                          std::string_view stream) {
  std::vector<std::size_t> numbers(available);
  std::iota(numbers.begin(), numbers.end(), std::size_t{0});
  RandomStream random(seed, stream);
  for (std::size_t i = 0; i < wanted; ++i) std::swap(numbers[i], numbers[i + random.below(available - i)]);
  numbers.resize(wanted);
  return numbers;
}

/// `wanted` of `available` window numbers, ascending.
std::vector<std::size_t> choose_windows(std::size_t available, std::size_t wanted, std::uint64_t seed) {
  if (seed != 0) {
    std::vector<std::size_t> numbers = shuffled_windows(available, wanted, seed, "calibration windows");
    std::ranges::sort(numbers);
    return numbers;
  }
  std::vector<std::size_t> numbers(wanted);
  std::iota(numbers.begin(), numbers.end(), std::size_t{0});
  return numbers;
}

/// How many windows the stream holds; throws when those are fewer than `wanted`.
std::size_t available_windows(std::span<const std::int32_t> stream, std::span<const std::int32_t> prefix,
                              const WindowRule& rule, std::size_t wanted, const std::string& origin) {
  if (rule.tokens <= prefix.size())
    fail(ErrorKind::bad_data, "{}: windows of {} tokens leave no room for text after {} special tokens", origin,
         rule.tokens, prefix.size());
  if (wanted == 0) fail(ErrorKind::bad_data, "{}: 0 windows are asked for; ask for 1 or more", origin);
  const std::size_t available = stream.size() / (rule.tokens - prefix.size());
  if (available < wanted)
    fail(ErrorKind::bad_data,
         "{}: {} tokens give {} windows of {}, but {} are asked for; add text, or lower windows or tokens", origin,
         stream.size(), available, rule.tokens, wanted);
  return available;
}

/// Those windows of the stream, each behind the prefix.
TokenWindows take_windows(std::span<const std::int32_t> stream, std::span<const std::int32_t> prefix,
                          std::size_t tokens, std::span<const std::size_t> numbers) {
  const std::size_t text_tokens = tokens - prefix.size();
  TokenWindows windows{tokens, {}};
  windows.ids.reserve(checked_mul(numbers.size(), tokens));
  for (const std::size_t number : numbers) {
    const auto piece = stream.subspan(number * text_tokens, text_tokens);
    windows.ids.insert(windows.ids.end(), prefix.begin(), prefix.end());
    windows.ids.insert(windows.ids.end(), piece.begin(), piece.end());
  }
  return windows;
}

std::uint64_t hash_of(std::span<const std::int32_t> ids) {
  const auto bytes = std::as_bytes(ids);
  return hash64({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

}  // namespace

std::vector<std::int32_t> tokenize_set(const TextSet& set, const Tokenizer& tokenizer) {
  const bool any_ids = std::ranges::any_of(set.texts, [](const TextSpec& s) { return s.kind == TextKind::ids; });
  if (!any_ids) return tokenize_texts(set, tokenizer);
  std::vector<std::int32_t> stream;
  for (const TextSpec& spec : set.texts) {
    if (spec.kind != TextKind::ids || set.interleave)
      fail(ErrorKind::bad_data, "{}: token ids stand in sets of their own, without interleave", set.origin);
    const std::vector<std::int32_t> ids = read_ids(spec, tokenizer.size());
    stream.insert(stream.end(), ids.begin(), ids.end());
  }
  return stream;
}

std::string TokenWindows::hash() const {
  Hasher hasher;
  hasher.add(fmt::format("windows of {} tokens\n", tokens));
  hasher.add(std::as_bytes(std::span(ids)));
  return hasher.hex();
}

TokenWindows TokenWindows::first(std::size_t wanted) const {
  return {tokens, {ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(wanted * tokens)}};
}

TokenWindows cut_windows(std::span<const std::int32_t> stream, std::span<const std::int32_t> prefix,
                         const WindowRule& rule, const std::string& origin) {
  const std::size_t available = available_windows(stream, prefix, rule, rule.windows, origin);
  return take_windows(stream, prefix, rule.tokens, choose_windows(available, rule.windows, rule.seed));
}

std::vector<TokenWindows> cut_draws(std::span<const std::int32_t> stream, std::span<const std::int32_t> prefix,
                                    const WindowRule& rule, std::size_t draws, const std::string& origin) {
  const std::size_t wanted = checked_mul(rule.windows, draws);
  const std::size_t available = available_windows(stream, prefix, rule, wanted, origin);
  const std::vector<std::size_t> numbers = shuffled_windows(available, wanted, rule.seed, "calibration draws");
  std::vector<TokenWindows> result;
  for (std::size_t draw = 0; draw < draws; ++draw)
    result.push_back(
        take_windows(stream, prefix, rule.tokens, std::span(numbers).subspan(draw * rule.windows, rule.windows)));
  return result;
}

TokenWindows load_windows(const std::filesystem::path& path, const Tokenizer& tokenizer, const WindowRule& rule) {
  const TextSet set = load_text_set(path);
  return cut_windows(tokenize_set(set, tokenizer), tokenizer.vocabulary().prefix_ids, rule, path.string());
}

std::size_t passage_tokens(std::size_t window) {
  constexpr std::size_t kPassage = 64;
  return std::min(kPassage, std::max<std::size_t>(window / 2, 1));
}

Passages::Passages(const TokenWindows& windows) : length_(passage_tokens(windows.tokens)) {
  for (std::size_t w = 0; w < windows.count(); ++w)
    for (std::size_t first = 0; first + length_ <= windows.tokens; ++first)
      hashes_.insert(hash_of(windows.window(w).subspan(first, length_)));
}

double Passages::share_of(std::span<const std::int32_t> text) const {
  std::size_t shared = 0;
  std::size_t pieces = 0;
  for (std::size_t first = 0; first + length_ <= text.size(); ++first, ++pieces)
    shared += hashes_.contains(hash_of(text.subspan(first, length_)));
  return pieces == 0 ? 0 : static_cast<double>(shared) / static_cast<double>(pieces);
}

double shared_text(const TokenWindows& windows, std::span<const std::int32_t> text) {
  return Passages(windows).share_of(text);
}

}  // namespace adze
