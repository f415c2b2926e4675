// Exported folders with an adze.json (checkpoint/export_manifest.h): what changed since they were written.
#include "base/file.h"
#include "base/hash.h"
#include "checkpoint/export_manifest.h"
#include "checkpoint/folder_files.h"
#include "pipeline/inspect_kinds.h"

namespace adze::inspecting {
namespace {

constexpr std::size_t kPieceBytes = std::size_t{8} << 20;

std::optional<ExportManifest> manifest_of(const Path& folder) {
  if (!is_in_folder(folder, kExportManifestName)) return std::nullopt;
  const Path path = path_in_folder(folder, kExportManifestName);
  return parse_export_manifest(read_file(path, kMaxStoreFileBytes), path.string());
}

std::string hash_of_range(const InputFile& file, std::uint64_t begin, std::uint64_t bytes) {
  Hasher hasher;
  std::vector<std::byte> piece;
  for (std::uint64_t done = 0; done < bytes; done += piece.size()) {
    piece.resize(static_cast<std::size_t>(std::min<std::uint64_t>(kPieceBytes, bytes - done)));
    file.read(begin + done, piece);
    hasher.add(piece);
  }
  return hasher.hex();
}

void check_tensor(const Path& folder, const ExportManifest::Tensor& tensor) {
  const InputFile file(path_in_folder(folder, tensor.file));
  const bool is_inside = tensor.begin <= file.size() && tensor.bytes <= file.size() - tensor.begin;
  if (is_inside && hash_of_range(file, tensor.begin, tensor.bytes) == tensor.hash) return;
  fail(ErrorKind::bad_data, "{}: tensor '{}', bytes {} to {}, {}", file.path().string(), tensor.name, tensor.begin,
       tensor.begin + tensor.bytes, is_inside ? "is not what was written" : "is cut off");
}

void check_file(const Path& folder, const ExportManifest::File& file) {
  const Path path = path_in_folder(folder, file.name);
  if (hash_file(path) != file.hash) fail(ErrorKind::bad_data, "{}: is not what was written", path.string());
}

}  // namespace

void describe_export(const Path& folder, Inspection& inspection) {
  try {
    const auto manifest = manifest_of(folder);
    if (!manifest) return;
    add(inspection, "exported_as", manifest->format);
    for (const auto& [key, value] : manifest->provenance) add(inspection, key, value);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::bad_data) throw;
    add(inspection, "exported_as", error.message());
  }
}

void verify_export(const Path& folder, Inspection& inspection, Progress& progress) {
  std::optional<ExportManifest> manifest;
  check(inspection, [&] { manifest = manifest_of(folder); });
  if (!manifest) return;
  for (const ExportManifest::File& file : manifest->files) check(inspection, [&] { check_file(folder, file); });
  progress.start("comparing hashes", manifest->tensors.size());
  std::uint64_t done = 0;
  for (const ExportManifest::Tensor& tensor : manifest->tensors) {
    check(inspection, [&] { check_tensor(folder, tensor); });
    progress.update(++done);
  }
}

}  // namespace adze::inspecting
