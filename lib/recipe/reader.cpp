#include "recipe/reader.h"

#include <algorithm>
#include <limits>

#include "base/words.h"
#include "recipe/scalars.h"

namespace adze {
namespace {

// Below, any word is near any other; above, the edit distance (word x candidate steps) costs too much.
constexpr std::size_t kShortestSuggestedWord = 3;
constexpr std::size_t kLongestSuggestedWord = 64;
constexpr std::size_t kMostListedCandidates = 16;  // more would bury the message

std::string range_in_words(std::string_view what, const auto& smallest, const auto& largest) {
  return fmt::format("{} from {} to {}", what, smallest, largest);
}

}  // namespace

std::string suggestion_or_list(std::string_view word, std::span<const std::string> candidates, std::string_view label) {
  const bool suggests = word.size() >= kShortestSuggestedWord && word.size() <= kLongestSuggestedWord;
  const std::string near = suggests ? suggestion(word, candidates) : "";
  if (!near.empty() || candidates.empty() || candidates.size() > kMostListedCandidates) return near;
  return fmt::format("; {} {}", label, join_words(candidates));
}

Mark Value::where() const {
  if (!node_) return {};
  return node_->kind == NodeKind::null && key_.known() ? key_ : node_->where;
}

void Value::complain(std::string_view message) const { problems_->report(where(), "{} {}", label_, message); }

std::nullopt_t Value::expected(std::string_view what) const {
  complain(fmt::format("must be {}, found {}", what, describe(*node_)));
  return std::nullopt;
}

/// The node when it is a scalar; otherwise reports what it is and returns null.
const Node* Value::scalar(std::string_view what) const {
  if (!node_ || node_->kind == NodeKind::refused) return nullptr;
  if (node_->kind == NodeKind::scalar) return node_;
  expected(what);
  return nullptr;
}

std::optional<std::string> Value::text() const {
  const Node* node = scalar("text");
  if (!node) return std::nullopt;
  if (scalar_type(*node) != ScalarType::text) return expected("text (quote it if it is meant as text)");
  return node->text;
}

std::optional<std::string> Value::word() const {
  auto word = text();
  if (!word) return std::nullopt;
  if (word->empty()) return expected("text that is not empty");
  if (has_control_characters(*word)) return expected("text on one line without control characters");
  return word;
}

std::optional<bool> Value::boolean() const {
  const Node* node = scalar("true or false");
  if (!node) return std::nullopt;
  const auto value = node->quoted ? std::nullopt : parse_core_boolean(node->text);
  if (!value) return expected("true or false");
  return value;
}

std::optional<std::int64_t> Value::integer(std::int64_t smallest, std::int64_t largest) const {
  const std::string what = range_in_words("a whole number", smallest, largest);
  const Node* node = scalar(what);
  if (!node) return std::nullopt;
  const auto number = node->quoted ? std::nullopt : parse_core_integer(node->text);
  const auto limit = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  if (!number || number->overflow || number->magnitude > limit + (number->negative ? 1 : 0)) return expected(what);
  const std::uint64_t bits = number->negative ? 0 - number->magnitude : number->magnitude;
  const auto value = static_cast<std::int64_t>(bits);
  if (value < smallest || value > largest) return expected(what);
  return value;
}

std::optional<std::uint64_t> Value::count(std::uint64_t smallest, std::uint64_t largest) const {
  const std::string what = range_in_words("a whole number", smallest, largest);
  const Node* node = scalar(what);
  if (!node) return std::nullopt;
  const auto number = node->quoted ? std::nullopt : parse_core_integer(node->text);
  if (!number || number->overflow || (number->negative && number->magnitude > 0)) return expected(what);
  if (number->magnitude < smallest || number->magnitude > largest) return expected(what);
  return number->magnitude;
}

std::optional<double> Value::real(double smallest, double largest) const {
  const std::string what = range_in_words("a number", smallest, largest);
  const Node* node = scalar(what);
  if (!node) return std::nullopt;
  const auto value = node->quoted ? std::nullopt : parse_core_real(node->text);
  if (!value || !(*value >= smallest && *value <= largest)) return expected(what);
  return value;
}

std::optional<std::vector<double>> Value::numbers() const {
  constexpr std::string_view kWhat = "numbers apart by blanks, such as \"4 2\"";
  const Node* node = scalar(kWhat);
  if (!node) return std::nullopt;
  std::vector<double> numbers;
  std::string_view rest = node->text;
  while (true) {
    rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
    if (rest.empty()) break;
    const std::string_view word = rest.substr(0, rest.find(' '));
    const auto number = parse_core_real(word);
    if (!number) return expected(kWhat);
    numbers.push_back(*number);
    rest.remove_prefix(word.size());
  }
  if (numbers.empty()) return expected(kWhat);
  return numbers;
}

std::optional<double> Value::percent() const {
  constexpr std::string_view kWhat = "a percentage from 0% to 100% with its sign, such as 50%";
  const Node* node = scalar(kWhat);
  if (!node) return std::nullopt;
  const auto fraction = parse_percent(node->text);
  if (!fraction || !(*fraction >= 0 && *fraction <= 1)) return expected(kWhat);
  return fraction;
}

bool Value::is_scalar() const { return node_ != nullptr && node_->kind == NodeKind::scalar; }

bool Value::is_percent() const {
  return node_ != nullptr && node_->kind == NodeKind::scalar && parse_percent(node_->text).has_value();
}

std::optional<std::uint64_t> Value::bytes() const {
  constexpr std::string_view kWhat = "a size with its unit (B, kB, MB, GB, KiB, MiB, GiB), such as 4 GiB";
  const Node* node = scalar(kWhat);
  if (!node) return std::nullopt;
  const auto size = parse_sized_bytes(node->text);
  if (!size) return expected(kWhat);
  return size;
}

std::optional<std::size_t> Value::index_of(std::span<const std::string> names) const {
  const Node* node = scalar(fmt::format("one of {}", join_words(names)));
  if (!node) return std::nullopt;
  const auto found = std::ranges::find(names, node->text);
  if (found != names.end()) return static_cast<std::size_t>(found - names.begin());
  complain(
      fmt::format("cannot be {}{}", quoted_for_message(node->text), suggestion_or_list(node->text, names, "known:")));
  return std::nullopt;
}

bool Value::too_many(std::size_t count) const {
  if (count > kMaxListed) complain(fmt::format("has {} entries, more than {}", count, kMaxListed));
  return count > kMaxListed;
}

std::vector<Value> Value::items() const {
  std::vector<Value> items;
  if (!node_ || node_->kind == NodeKind::refused) return items;
  if (node_->kind != NodeKind::list) {
    expected("a list");
    return items;
  }
  if (node_->children.empty()) complain("must not be empty");
  if (too_many(node_->children.size())) return items;
  for (const Node& child : node_->children)
    items.emplace_back(child, Mark{}, fmt::format("item {} of {}", items.size() + 1, label_), *problems_);
  return items;
}

std::vector<MapEntry> Value::entries() const {
  std::vector<MapEntry> entries;
  if (!node_ || node_->kind == NodeKind::refused) return entries;
  if (node_->kind != NodeKind::map) {
    expected("a map");
    return entries;
  }
  if (too_many(node_->entry_count())) return entries;
  for (std::size_t i = 0; i < node_->entry_count(); ++i) {
    const Node& key = node_->key(i);
    entries.push_back({&key, Value(node_->value(i), key.where, quoted_for_message(key.text), *problems_)});
  }
  return entries;
}

std::optional<MapReader> Value::map() const {
  if (!node_ || node_->kind == NodeKind::refused) return std::nullopt;
  if (node_->kind != NodeKind::map) return expected("a map");
  return MapReader(*node_, label_, *problems_);
}

MapReader::MapReader(const Node& node, std::string what, Diagnostics& problems)
    : where_(node.where), what_(std::move(what)), problems_(&problems) {
  if (node.kind == NodeKind::map)
    map_ = &node;
  else if (node.kind != NodeKind::refused)
    problems_->report(where_, "{} must be a map, found {}", what_, describe(node));
}

Value MapReader::optional(std::string_view key) {
  if (asked_.emplace(key).second) known_.emplace_back(key);
  for (std::size_t i = 0; map_ && i < map_->entry_count(); ++i)
    if (map_->key(i).text == key) return Value(map_->value(i), map_->key(i).where, quoted_for_message(key), *problems_);
  return Value(*problems_);
}

Value MapReader::required(std::string_view key) {
  const Value value = optional(key);
  if (!value.present() && map_) problems_->report(where_, "{} needs the key '{}'", what_, key);
  return value;
}

void MapReader::also_known(std::span<const std::string_view> keys) {
  known_.insert(known_.end(), keys.begin(), keys.end());
}

Node MapReader::rest() const {
  Node rest;
  rest.kind = NodeKind::map;
  rest.where = where_;
  for (std::size_t i = 0; map_ && i < map_->entry_count(); ++i) {
    if (asked_.contains(map_->key(i).text)) continue;
    rest.children.push_back(map_->key(i));
    rest.children.push_back(map_->value(i));
  }
  return rest;
}

void MapReader::finish() {
  for (std::size_t i = 0; map_ && i < map_->entry_count(); ++i) {
    const Node& key = map_->key(i);
    if (asked_.contains(key.text)) continue;
    problems_->report(key.where, "unknown key {}{}", quoted_for_message(key.text),
                      suggestion_or_list(key.text, known_, "known here:"));
  }
}

}  // namespace adze
