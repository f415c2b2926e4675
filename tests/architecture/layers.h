// The direction of dependencies: the table of layers in docs/architecture.md, and what breaks it.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "architecture/repository.h"

namespace adze::testing {

/// Height of each folder: 0 for the lowest layer. Folders of one height do not see each other.
using Layers = std::map<std::string, std::size_t>;

/// Reads the table between the lines "<!-- layers: highest first -->" and "<!-- end of layers -->": the first cell of a
/// row names the layer's folders in backquotes.
inline Layers parse_layers(const std::string& markdown) {
  std::vector<std::vector<std::string>> rows;
  bool inside = false;
  for (const std::string& line : lines_of(markdown)) {
    if (line.starts_with("<!-- layers")) inside = true;
    if (line.starts_with("<!-- end of layers")) inside = false;
    if (!inside || !line.starts_with("| `")) continue;
    rows.push_back(code_spans(line.substr(0, line.find('|', 1))));
  }
  Layers layers;
  for (std::size_t r = 0; r < rows.size(); ++r)
    for (const std::string& folder : rows[r])
      if (!layers.emplace(folder, rows.size() - 1 - r).second)
        throw std::runtime_error("folder '" + folder + "' stands in two layers");
  return layers;
}

/// "lib/solve/gptq/gptq.cpp" -> "solve"; "apps/tool.h" -> "apps".
inline std::string layer_folder(const std::string& path) {
  const std::string inside = path.starts_with("lib/") ? path.substr(4) : path;
  return inside.substr(0, inside.find('/'));
}

/// What an #include line names, with `quoted` false for <...>; nothing for other lines.
struct Include {
  std::string target;
  bool quoted = true;
};
inline std::optional<Include> parse_include(const std::string& line) {
  const std::size_t hash = line.find_first_not_of(" \t");
  if (hash == std::string::npos || line[hash] != '#') return std::nullopt;
  const std::size_t word = line.find_first_not_of(" \t", hash + 1);
  if (word == std::string::npos || line.compare(word, 7, "include") != 0) return std::nullopt;
  const std::size_t open = line.find_first_of("\"<", word);
  if (open == std::string::npos) return std::nullopt;
  const bool quoted = line[open] == '"';
  const std::size_t close = line.find(quoted ? '"' : '>', open + 1);
  if (close == std::string::npos) return std::nullopt;
  return Include{line.substr(open + 1, close - open - 1), quoted};
}

/// Why this include breaks the layers; "" when it does not.
inline std::string broken_rule(const Include& include, const std::string& folder, const Layers& layers) {
  const std::size_t slash = include.target.find('/');
  const std::string target = include.target.substr(0, slash);
  const bool ours = slash != std::string::npos && layers.contains(target);
  if (!include.quoted) return ours ? "is ours: use quotes" : "";
  if (include.target.find("..") != std::string::npos) return "is relative";
  if (slash == std::string::npos) return folder == "apps" ? "" : "needs the path from lib/";
  if (!ours) return "names no folder of the layer table";
  if (target != folder && layers.at(target) >= layers.at(folder)) return "points upwards or sideways";
  return "";
}

/// "file:line: include: rule" for every include of `files` that breaks a rule.
inline std::vector<std::string> check_includes(const std::vector<TextFile>& files, const Layers& layers) {
  std::vector<std::string> findings;
  for (const TextFile& file : files) {
    const std::string folder = layer_folder(file.path);
    if (!layers.contains(folder)) {
      findings.push_back(file.path + ": its folder is not in the layer table");
      continue;
    }
    std::size_t number = 0;
    for (const std::string& line : lines_of(file.text)) {
      ++number;
      const auto include = parse_include(line);
      if (!include) continue;
      const std::string rule = broken_rule(*include, folder, layers);
      if (!rule.empty())
        findings.push_back(file.path + ":" + std::to_string(number) + ": '" + include->target + "' " + rule);
    }
  }
  return findings;
}

/// The libraries that each folder's library links, as lib/CMakeLists.txt says: adze_library(solve PUBLIC adze_grid
/// ...).
inline std::map<std::string, std::set<std::string>> parse_links(const std::string& cmake) {
  std::map<std::string, std::set<std::string>> links;
  for (const std::string& line : lines_of(cmake)) {
    if (!line.starts_with("adze_library(")) continue;
    std::istringstream words(line.substr(line.find('(') + 1, line.rfind(')') - line.find('(') - 1));
    std::string name;
    words >> name;
    links[name];
    for (std::string word; words >> word;)
      if (word.starts_with("adze_")) links[name].insert(word.substr(5));
  }
  return links;
}

/// What `name` links directly or through others.
inline std::set<std::string> reachable(const std::string& name,
                                       const std::map<std::string, std::set<std::string>>& links) {
  std::set<std::string> found;
  std::vector<std::string> open{name};
  while (!open.empty()) {
    const std::string next = open.back();
    open.pop_back();
    const auto at = links.find(next);
    if (at == links.end()) continue;
    for (const std::string& link : at->second)
      if (found.insert(link).second) open.push_back(link);
  }
  return found;
}

/// Includes of folders whose library is not linked, and links that point upwards.
inline std::vector<std::string> check_links(const std::vector<TextFile>& files, const std::string& cmake,
                                            const Layers& layers) {
  const auto links = parse_links(cmake);
  std::vector<std::string> findings;
  for (const auto& [name, targets] : links)
    for (const std::string& target : targets)
      if (!layers.contains(name) || !layers.contains(target) || layers.at(target) >= layers.at(name))
        findings.push_back("lib/CMakeLists.txt: '" + name + "' links '" + target + "', which is not below it");
  std::set<std::string> reported;
  for (const TextFile& file : files) {
    const std::string folder = layer_folder(file.path);
    if (!file.path.starts_with("lib/")) continue;
    const std::set<std::string> linked = reachable(folder, links);
    for (const std::string& line : lines_of(file.text)) {
      const auto include = parse_include(line);
      if (!include || !include->quoted) continue;
      const std::string target = include->target.substr(0, include->target.find('/'));
      if (target != folder && layers.contains(target) && !linked.contains(target) &&
          reported.insert(folder + target).second)
        findings.push_back(file.path + ": includes '" + target + "', but lib/CMakeLists.txt does not link it to '" +
                           folder + "'");
    }
  }
  return findings;
}

}  // namespace adze::testing
