// Inspection of packs: every region against its checksums, and every whole tensor decoded.
#include <optional>

#include "grid/compressed_tensor.h"
#include "model/pack/pack_weights.h"
#include "pipeline/inspect_kinds.h"

namespace adze::inspecting {

void describe_pack(const Path& path, Inspection& inspection) {
  const PackFile pack(path);
  const PackManifest& manifest = pack.manifest();
  add(inspection, "model", manifest.name);
  add(inspection, "file_bytes", manifest.file_bytes);
  add(inspection, "manifest_bytes", manifest.data_start);
  if (manifest.base) {
    add(inspection, "delta_of", manifest.base->name);
    add(inspection, "base_hash", manifest.base->hash);
    add(inspection, "delta_bits_per_weight", manifest.bits_per_weight());
  }
  add_architecture(inspection, manifest.architecture);
  std::vector<std::string> files;
  for (const PackedFile& file : manifest.files)
    files.push_back(fmt::format("{} ({} bytes)", file.name, file.region.bytes));
  add(inspection, "files", std::move(files));
  for (const auto& [key, value] : manifest.provenance) inspection.metadata.push_back({key, "STRING", value});
  for (const PackTensor& tensor : manifest.tensors)
    inspection.tensors.push_back({tensor.name, tensor.in_words(), tensor.shape, tensor.region.bytes});
}

void verify_pack(const Path& path, Inspection& inspection, Progress& progress) {
  const PackFile pack(path);
  const PackManifest& manifest = pack.manifest();
  std::vector<std::string>& damage = inspection.damage;
  const auto look = [&](const std::string& what, const PackRegion& region) {
    const std::vector<std::string> problems = pack.damage(region);
    for (const std::string& problem : problems) damage.push_back(fmt::format("{}: {}", what, problem));
    return problems.empty();
  };
  progress.start("verifying", manifest.tensors.size());
  for (std::string& problem : pack.padding_damage()) damage.push_back(std::move(problem));
  bool files_are_whole = true;
  for (const PackedFile& file : manifest.files)
    files_are_whole &= look(fmt::format("file '{}'", file.name), file.region);
  std::optional<PackWeights> weights;  // none: tensors are not decoded, as config.json decides what they must be
  if (files_are_whole) check(inspection, [&] { weights.emplace(path); });
  for (std::size_t i = 0; i < manifest.tensors.size(); ++i) {
    const PackTensor& tensor = manifest.tensors[i];
    if (look(fmt::format("tensor '{}'", tensor.name), tensor.region) && weights &&
        tensor.encoding != PackEncoding::same)
      check(inspection, [&] { weights->stored(*weights->pack().find(tensor.name)); });
    progress.update(i + 1);
  }
}

}  // namespace adze::inspecting
