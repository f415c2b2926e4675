// adze.json: what an exported folder held when it was written. The hash of every tensor and of every other file, so
// that `adze inspect --verify` finds what changed since, and where it came from. Runtimes do not look at it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace adze {

inline constexpr std::string_view kExportManifestName = "adze.json";

struct ExportManifest {
  struct File {
    std::string name;  ///< bare
    std::string hash;  ///< hash_hex() of all of it
  };
  struct Tensor {
    std::string name;  ///< or "its header", of a safetensors file
    std::string file;
    std::uint64_t begin = 0;  ///< in the file
    std::uint64_t bytes = 0;
    std::string hash;  ///< hash_hex() of its bytes
  };

  std::string format;                                           ///< "compressed-tensors"
  std::vector<std::pair<std::string, std::string>> provenance;  ///< empty values are left out
  std::vector<File> files;
  std::vector<Tensor> tensors;

  /// Its size does not depend on hashes; those that are not known yet are blank.
  std::string text() const;
};

/// What a tensor adds to the text.
std::uint64_t bytes_in_export_manifest(const ExportManifest::Tensor& tensor);

/// Throws bad_data, naming `origin`, for what is no manifest.
ExportManifest parse_export_manifest(const std::string& text, const std::string& origin);

}  // namespace adze
