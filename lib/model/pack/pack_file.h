// A pack opened for reading: what its manifest says, and bytes of its regions, checked piece by piece as they are read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "model/pack/manifest.h"

namespace adze {

class PackFile {
 public:
  /// Reads the manifest and nothing else. Throws missing_input, bad_data.
  explicit PackFile(const std::filesystem::path& path);

  const PackManifest& manifest() const { return manifest_; }
  const InputFile& file() const { return file_; }
  /// nullptr when there is none.
  const PackTensor* find(std::string_view name) const;

  /// Bytes of a region from `offset` on; the pieces that they touch are read whole. Throws bad_data, naming the bytes,
  /// for a piece whose checksum differs, and when the range leaves the region.
  void read(const PackRegion& region, std::uint64_t offset, std::span<std::byte> out) const;
  std::vector<std::byte> read(const PackRegion& region) const;

  /// All that is wrong with a region: each damaged piece with its place, or the hash of the whole.
  std::vector<std::string> damage(const PackRegion& region) const;
  /// Bytes between regions, which must be zero.
  std::vector<std::string> padding_damage() const;

 private:
  std::vector<std::byte> piece(const PackRegion& region, std::uint64_t index) const;
  std::string problem_of(const PackRegion& region, std::uint64_t index, std::span<const std::byte> bytes) const;

  InputFile file_;
  PackManifest manifest_;
};

}  // namespace adze
