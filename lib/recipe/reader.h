// A typed way to read the tree of a Document: ask a MapReader for keys, ask the Value for its type and range.
//
//   MapReader map(node, "calibration", problems);
//   spec.set = map.required("set").word().value_or("");
//   spec.windows = map.optional("windows").count(1, 1'000'000).value_or(128);
//   map.finish();                                     // unknown keys, with suggestions from the keys asked for
//
// Getters never throw for what a file says: a problem is added to the Diagnostics with its place, the getter returns
// nothing, and reading goes on, so that one run finds every problem. A reader refers to the node and the Diagnostics;
// both must outlive it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "recipe/diagnostics.h"
#include "recipe/document.h"

namespace adze {

/// Most items of a list, most entries of a map whose keys are names: names are compared with each other.
inline constexpr std::size_t kMaxListed = 2000;

class MapReader;
struct MapEntry;

/// One row of a table of names.
template <typename T>
struct Named {
  std::string_view name;
  T value;
};

/// A value that may be absent. Every getter of an absent value returns nothing and reports nothing.
class Value {
 public:
  /// Absent.
  explicit Value(Diagnostics& problems) : problems_(&problems) {}
  /// `label` names it in messages: "'windows'", "item 2 of 'choose'".
  Value(const Node& node, Mark key, std::string label, Diagnostics& problems)
      : node_(&node), key_(key), label_(std::move(label)), problems_(&problems) {}

  bool present() const { return node_ != nullptr; }
  /// Where the value stands; its key if nothing is written for it.
  Mark where() const;
  Mark key_where() const { return key_; }

  /// Text, several lines allowed. Plain numbers and true/false are not text: they need quotes.
  std::optional<std::string> text() const;
  /// Text on one line, not empty, without control characters: names and paths.
  std::optional<std::string> word() const;
  std::optional<bool> boolean() const;
  std::optional<std::int64_t> integer(std::int64_t smallest, std::int64_t largest) const;
  std::optional<std::uint64_t> count(std::uint64_t smallest, std::uint64_t largest) const;
  /// A whole number or a real, finite.
  std::optional<double> real(double smallest, double largest) const;
  /// One or more numbers apart by blanks: "4 2". Only several need quotes.
  std::optional<std::vector<double>> numbers() const;
  /// "50%" as 0.5, from 0% to 100%. Numbers without the sign are refused: 0.5 may mean either.
  std::optional<double> percent() const;
  /// True for one value, as opposed to a list or a map.
  bool is_scalar() const;
  /// True for a number with the sign of percent(), for options that take either.
  bool is_percent() const;
  /// "4 GiB"; the unit is required.
  std::optional<std::uint64_t> bytes() const;
  /// One of a table's names.
  template <typename T>
  std::optional<T> one_of(std::span<const Named<T>> table) const;
  /// The items of a list that is not empty; none when there are more than kMaxListed.
  std::vector<Value> items() const;
  /// The entries of a map, in the order of the file, likewise limited: for maps whose keys are names that the file
  /// makes up.
  std::vector<MapEntry> entries() const;
  /// A reader of a map with known keys.
  std::optional<MapReader> map() const;

  /// Reports a problem at this value: "LABEL MESSAGE".
  void complain(std::string_view message) const;

 private:
  const Node* scalar(std::string_view expected) const;
  std::nullopt_t expected(std::string_view what) const;
  bool too_many(std::size_t count) const;
  std::optional<std::size_t> index_of(std::span<const std::string> names) const;

  const Node* node_ = nullptr;
  Mark key_;
  std::string label_;
  Diagnostics* problems_;
};

struct MapEntry {
  const Node* key;
  Value value;
};

class MapReader {
 public:
  /// `what` names the map in messages ("scheme 'w4'"). A node that is no map is reported and then reads as one where
  /// every key is absent.
  MapReader(const Node& node, std::string what, Diagnostics& problems);

  bool is_map() const { return map_ != nullptr; }
  Mark where() const { return where_; }
  const std::string& what() const { return what_; }

  Value optional(std::string_view key);
  /// Reports the absence.
  Value required(std::string_view key);
  /// Adds names that suggestions for unknown keys may use although this reader does not ask for them.
  void also_known(std::span<const std::string_view> keys);
  /// The entries that were not asked for, in the order of the file, as a map of their own.
  Node rest() const;
  /// Reports every key that was not asked for.
  void finish();

 private:
  const Node* map_ = nullptr;
  Mark where_;
  std::string what_;
  Diagnostics* problems_;
  std::set<std::string, std::less<>> asked_;
  std::vector<std::string> known_;  ///< candidates for suggestions, in the order they were asked for
};

template <typename T>
std::optional<T> Value::one_of(std::span<const Named<T>> table) const {
  std::vector<std::string> names;
  for (const Named<T>& row : table) names.emplace_back(row.name);
  const auto index = index_of(names);
  if (!index) return std::nullopt;
  return table[*index].value;
}

/// "; did you mean 'X'?" when a candidate is near, else "; LABEL a, b and c" unless there are none or many.
std::string suggestion_or_list(std::string_view word, std::span<const std::string> candidates, std::string_view label);

}  // namespace adze
