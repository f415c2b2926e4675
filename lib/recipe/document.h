// One YAML document as a small tree of our own, with the place of every node. yaml-cpp stays inside document.cpp.
//
// Strict on purpose: one document per file, keys are plain words and unique, and no anchors, aliases, merge keys or
// tags. What those save in typing they cost in reading, and aliases let a file of 1 KiB grow to gigabytes. The tree is
// built from parser events, so nothing is ever expanded; depth, nodes and bytes are limited while the text is read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "recipe/diagnostics.h"
#include "recipe/source.h"

namespace adze {

inline constexpr std::size_t kMaxYamlDepth = 32;
inline constexpr std::size_t kMaxYamlNodes = 100'000;

enum class NodeKind : std::uint8_t {
  null,    ///< nothing written, or `~` or `null`
  scalar,  ///< one value
  list,    ///< children are its items
  map,     ///< children alternate key, value; keys are scalars and differ
  refused  ///< already reported (an alias); readers pass over it
};

struct Node {
  NodeKind kind = NodeKind::null;
  bool quoted = false;  ///< the scalar stood in quotes or in a block: it is text whatever it looks like
  Mark where;
  std::string text;  ///< of a scalar
  std::vector<Node> children;

  /// For maps: how many entries, and their parts.
  std::size_t entry_count() const { return children.size() / 2; }
  const Node& key(std::size_t i) const { return children[2 * i]; }
  const Node& value(std::size_t i) const { return children[2 * i + 1]; }
};

class Document {
 public:
  /// Reads and parses a file. Throws missing_input, io, and what parse() throws.
  static Document load(const std::filesystem::path& path);
  /// Throws Error(bad_recipe) for bytes that are not text, broken YAML, a second document and broken limits, with
  /// everything found before. Duplicate keys, anchors, aliases, merge keys and tags are added to problems() so that
  /// the reader of the tree can add its own and report all of them together.
  static Document parse(std::string text, std::string origin);

  const Node& root() const { return root_; }
  Diagnostics& problems() { return problems_; }
  const std::shared_ptr<const Source>& source() const { return problems_.source(); }

 private:
  explicit Document(Diagnostics problems) : problems_(std::move(problems)) {}

  Node root_;
  Diagnostics problems_;
};

}  // namespace adze
