// Checks of documents against what they speak of: links, paths, and the options of programs.
#pragma once

#include <regex>
#include <set>
#include <string>
#include <vector>

#include "architecture/repository.h"

namespace adze::testing {

/// "file:line" in messages.
inline std::string place(const TextFile& file, std::size_t line) { return file.path + ":" + std::to_string(line); }

/// Lines outside fenced code, with their numbers from 1.
struct NumberedLine {
  std::size_t number = 0;
  std::string text;
};
inline std::vector<NumberedLine> prose_of(const std::string& markdown) {
  std::vector<NumberedLine> prose;
  bool in_code = false;
  std::size_t number = 0;
  for (const std::string& line : lines_of(markdown)) {
    ++number;
    if (line.starts_with("```")) in_code = !in_code;
    if (!in_code && !line.starts_with("```")) prose.push_back({number, line});
  }
  return prose;
}

/// The anchor that web views give a heading: lower case, blanks as '-', other punctuation dropped.
inline std::string anchor_of(const std::string& heading) {
  std::string anchor;
  for (const char c : heading) {
    if (c == ' ') anchor += '-';
    const bool letter = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || (c & 0x80) != 0;
    if (letter) anchor += c;
    if (c >= 'A' && c <= 'Z') anchor += static_cast<char>(c - 'A' + 'a');
  }
  return anchor;
}

inline std::set<std::string> anchors_of(const std::string& markdown) {
  std::set<std::string> anchors;
  for (const NumberedLine& line : prose_of(markdown)) {
    const std::size_t hashes = line.text.find_first_not_of('#');
    if (hashes != std::string::npos && hashes > 0 && line.text[hashes] == ' ')
      anchors.insert(anchor_of(line.text.substr(hashes + 1)));
  }
  return anchors;
}

/// Links into the repository whose file or heading does not exist.
inline std::vector<std::string> check_links_in(const TextFile& document) {
  static const std::regex link(R"(\]\(([^)\s]+)\))");
  std::vector<std::string> findings;
  for (const NumberedLine& line : prose_of(document.text))
    for (std::sregex_iterator match(line.text.begin(), line.text.end(), link), end; match != end; ++match) {
      const std::string target = (*match)[1];
      if (target.find("://") != std::string::npos || target.starts_with("mailto:")) continue;
      const std::size_t hash = std::min(target.find('#'), target.size());
      const fs::path file = (repository() / document.path).parent_path() / target.substr(0, hash);
      const bool same_page = hash == 0;
      if (!same_page && !fs::exists(file)) {
        findings.push_back(place(document, line.number) + ": link to " + target + ", which does not exist");
        continue;
      }
      if (hash == target.size()) continue;
      if (!anchors_of(same_page ? document.text : read_text(file)).contains(target.substr(hash + 1)))
        findings.push_back(place(document, line.number) + ": " + target + " names no heading of its page");
    }
  return findings;
}

/// Paths of the repository that a document names, in prose or code, and that do not exist. Patterns are left alone.
inline std::vector<std::string> check_paths_in(const TextFile& document) {
  static const std::regex path(
      R"((^|[^\w./-])((apps|bench|calibration_data|docs|lib|recipes|tests)/[\w./*{}<>$-]*\w)(?![\w/*{<$]))");
  std::vector<std::string> findings;
  std::size_t number = 0;
  for (const std::string& line : lines_of(document.text)) {
    ++number;
    for (std::sregex_iterator match(line.begin(), line.end(), path), end; match != end; ++match) {
      const std::string named = (*match)[2];
      if (named.find_first_of("*{}<>$") != std::string::npos || named.find("NAME") != std::string::npos) continue;
      if (!fs::exists(repository() / named))
        findings.push_back(place(document, number) + ": names " + named + ", which does not exist");
    }
  }
  return findings;
}

/// Options in the text that --help prints: "-o,--output TEXT" gives -o and --output.
inline std::set<std::string> options_of_help(const std::string& help) {
  std::set<std::string> options;
  for (const std::string& line : lines_of(help)) {
    const std::size_t start = line.find_first_not_of(' ');
    if (start == 0 || start == std::string::npos || line[start] != '-') continue;
    std::istringstream words(line.substr(start, line.find_first_of(" \t", start) - start));
    for (std::string option; std::getline(words, option, ',');) options.insert(option);
  }
  return options;
}

/// Options that the tables of a section list: rows whose first cell has them in backquotes ("| `-o`, `--output OUT`
/// |").
inline std::set<std::string> options_of_tables(const std::string& section) {
  std::set<std::string> options;
  for (const std::string& line : lines_of(section)) {
    if (!line.starts_with("| `")) continue;
    for (const std::string& span : code_spans(line.substr(0, line.find(" |", 1))))
      if (span.starts_with("-")) options.insert(span.substr(0, span.find_first_of(" =")));
  }
  return options;
}

/// Names in `names` that stand nowhere between backquotes as a whole.
inline std::vector<std::string> missing_names(const std::set<std::string>& names, const std::string& markdown) {
  std::set<std::string> present;
  for (const std::string& line : lines_of(markdown))
    for (const std::string& span : code_spans(line)) present.insert(span);
  std::vector<std::string> missing;
  for (const std::string& name : names)
    if (!present.contains(name)) missing.push_back(name);
  return missing;
}

/// Keys that code asks a MapReader for: required("x"), optional("x").
inline std::set<std::string> keys_asked_for(const std::string& source) {
  static const std::regex call(R"((required|optional)\("(\w+)\"\))");
  std::set<std::string> keys;
  for (std::sregex_iterator match(source.begin(), source.end(), call), end; match != end; ++match)
    keys.insert((*match)[2]);
  return keys;
}

}  // namespace adze::testing
