// What the tests of this folder look at: the repository's files, its programs, and pieces of Markdown.
#pragma once

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <optional>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace adze::testing {

namespace fs = std::filesystem;

/// A file and its content; the path starts at the repository.
struct TextFile {
  std::string path;
  std::string text;
};

inline fs::path repository() { return ADZE_SOURCE_DIR; }

inline std::string read_text(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error(path.string() + ": cannot be read");
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

inline TextFile read_repository_file(const std::string& path) { return {path, read_text(repository() / path)}; }

inline std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

/// Files with one of the endings, sorted by path.
inline std::vector<TextFile> files_below(const std::string& folder, const std::set<std::string>& endings) {
  std::vector<TextFile> files;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(repository() / folder))
    if (entry.is_regular_file() && endings.contains(entry.path().extension().string()))
      files.push_back(read_repository_file(fs::relative(entry.path(), repository()).string()));
  std::ranges::sort(files, {}, &TextFile::path);
  return files;
}

struct CommandResult {
  int exit_code = 0;
  std::string output;
};

/// Runs a shell command; what it prints to stderr is dropped.
inline CommandResult run_command(const std::string& command) {
  FILE* pipe = ::popen((command + " 2>/dev/null").c_str(), "r");
  if (pipe == nullptr) throw std::runtime_error("cannot run: " + command);
  CommandResult result;
  std::array<char, 4096> buffer;
  while (const std::size_t got = std::fread(buffer.data(), 1, buffer.size(), pipe))
    result.output.append(buffer.data(), got);
  const int status = ::pclose(pipe);
  result.exit_code = status < 0 ? status : status >> 8;
  return result;
}

/// Paths that `git ls-files` prints with the given flags; nothing where this is no git checkout.
inline std::optional<std::vector<std::string>> git_files(const std::string& flags) {
  // The setting allows a checkout that another user owns, as in containers.
  const auto [code, output] =
      run_command("git -c safe.directory='*' -C '" + repository().string() + "' ls-files -z " + flags);
  if (code != 0) return std::nullopt;
  std::vector<std::string> paths;
  for (std::size_t start = 0; start < output.size();) {
    const std::size_t end = output.find('\0', start);
    paths.push_back(output.substr(start, end - start));
    start = end + 1;
  }
  return paths;
}

inline std::optional<std::vector<std::string>> committed_paths() { return git_files("--cached"); }

/// Markdown that people read: every *.md that is committed or may be, or those of the known folders where git does not
/// answer.
inline std::vector<TextFile> documents() {
  std::vector<TextFile> files;
  if (const auto paths = git_files("--cached --others --exclude-standard")) {
    for (const std::string& path : *paths)
      if (path.ends_with(".md") && fs::exists(repository() / path)) files.push_back(read_repository_file(path));
    return files;
  }
  for (const char* folder : {"docs", "lib", "calibration_data"})
    for (TextFile& file : files_below(folder, {".md"})) files.push_back(std::move(file));
  files.push_back(read_repository_file("README.md"));
  return files;
}

/// Names of the programs adze-*, by their sources: "adze-eval".
inline std::vector<std::string> program_names() {
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : fs::directory_iterator(repository() / "apps"))
    if (entry.path().extension() == ".cpp" && entry.path().stem().string().starts_with("adze-"))
      names.push_back(entry.path().stem().string());
  std::ranges::sort(names);
  return names;
}

/// The text from the heading `title` to the next heading of its level or above; "" when there is none.
inline std::string section_of(const std::string& markdown, const std::string& title) {
  std::string section;
  std::size_t level = 0;
  bool in_code = false;
  for (const std::string& line : lines_of(markdown)) {
    if (line.starts_with("```")) in_code = !in_code;
    const std::size_t hashes = in_code ? 0 : line.find_first_not_of('#');
    const bool heading = hashes != std::string::npos && hashes > 0 && line[hashes] == ' ';
    if (heading && level > 0 && hashes <= level) return section;
    if (heading && level == 0 && line.substr(hashes + 1) == title) level = hashes;
    if (level > 0) section += line + "\n";
  }
  return section;
}

/// The texts between backquotes on one line.
inline std::vector<std::string> code_spans(const std::string& line) {
  std::vector<std::string> spans;
  for (std::size_t open = line.find('`'); open != std::string::npos;) {
    const std::size_t close = line.find('`', open + 1);
    if (close == std::string::npos) break;
    spans.push_back(line.substr(open + 1, close - open - 1));
    open = line.find('`', close + 1);
  }
  return spans;
}

/// All findings in one message, so that one run shows everything.
inline std::string joined(const std::vector<std::string>& findings) {
  std::string text;
  for (const std::string& finding : findings) text += "\n  " + finding;
  return text;
}

}  // namespace adze::testing
