// Writes a pack region by region, after its head was planned (place_regions): hashes and checks are put into the head
// once all bytes are there.
#pragma once

#include <filesystem>
#include <span>
#include <string>

#include "base/file.h"
#include "model/pack/manifest.h"

namespace adze {

class PackWriter {
 public:
  /// The manifest, whose regions are placed, must stay. Throws cannot_create, io.
  PackWriter(const std::filesystem::path& path, PackManifest& manifest);

  /// Regions come in the order of the manifest; their bytes are the planned ones.
  void write(PackRegion& region, std::span<const std::byte> bytes);
  /// hash: hash_hex() of them.
  void write(PackRegion& region, std::span<const std::byte> bytes, const std::string& hash);
  /// The file is whole; it is on disk once its name is published (publish_file).
  void commit();

 private:
  PackManifest& manifest_;
  OutputFile file_;
};

}  // namespace adze
