// Paths written in YAML files: relative ones start at the folder of the file that names them.
#pragma once

#include <filesystem>

namespace adze {

inline std::filesystem::path resolve(const std::filesystem::path& folder, const std::filesystem::path& path) {
  return (folder / path).lexically_normal();
}

}  // namespace adze
