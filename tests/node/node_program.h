// Node.js as tests use it: which program, what a command wrote, and why something cannot be run here.
#pragma once

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>

namespace adze::testing {

inline std::string quoted(const std::filesystem::path& path) { return "'" + path.string() + "'"; }

inline std::filesystem::path node_folder() { return std::filesystem::path(ADZE_SOURCE_DIR) / "tests/node"; }

inline std::string node_program() {
  const char* const stated = std::getenv("ADZE_NODE");
  return stated && *stated ? quoted(stated) : "node";
}

/// What a shell command wrote to stdout; nothing when it failed.
inline std::optional<std::string> output_of(const std::string& command) {
  std::FILE* const pipe = ::popen(command.c_str(), "r");
  if (!pipe) return std::nullopt;
  std::string out;
  std::array<char, 4096> piece;
  for (std::size_t got = 0; (got = std::fread(piece.data(), 1, piece.size(), pipe)) > 0;) out.append(piece.data(), got);
  if (::pclose(pipe) != 0) return std::nullopt;
  return out;
}

/// Why there is no package of that name for Node.js here; empty when there is one.
inline std::string missing_package(const std::string& name) {
  constexpr int kOldestNode = 20;
  const auto version = output_of(node_program() + " -p 'parseInt(process.versions.node)' 2>/dev/null");
  if (!version) return "no Node.js: set ADZE_NODE, or run tests/run.sh, which installs it";
  if (std::atoi(version->c_str()) < kOldestNode) return "Node.js is older than 20: set ADZE_NODE, or run tests/run.sh";
  if (!std::filesystem::exists(node_folder() / "node_modules" / name))
    return "tests/node/node_modules is missing: run tests/run.sh, or npm ci --ignore-scripts in tests/node";
  return "";
}

}  // namespace adze::testing
