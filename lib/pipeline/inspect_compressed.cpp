// Inspection of what adze-compress makes: output folders, their stores, and runs that are not finished.
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/json.h"
#include "checkpoint/sidecar.h"
#include "model/compressed_store.h"
#include "model/finite.h"
#include "pipeline/inspect_kinds.h"
#include "pipeline/ledger.h"
#include "pipeline/work_folder.h"

namespace adze::inspecting {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

void add_matrix(Inspection& inspection, const std::string& name, const CompressedTensor& tensor) {
  inspection.tensors.push_back({name, tensor.format(), {tensor.shape().rows, tensor.shape().cols}, tensor.bytes()});
}

void add_vector(Inspection& inspection, const std::string& name, std::span<const float> values) {
  if (!values.empty()) inspection.tensors.push_back({name, "f32", {values.size()}, values.size_bytes()});
}

void add_block(Inspection& inspection, std::size_t index, const BlockWeights& block, const Architecture& architecture) {
  for (const NormInfo& norm : architecture.info().norms) {
    const std::string name = module_name(index, norm);
    add_vector(inspection, name, block[norm.slot]);
    add_vector(inspection, name + ".bias", block.bias_of(norm.slot));
  }
  for (const LinearInfo& info : block_linears(architecture)) {
    add_matrix(inspection, module_name(index, info), *block[info.slot].weight);
    add_vector(inspection, module_name(index, info) + ".bias", block[info.slot].bias);
  }
}

/// Of a model whose architecture is not known; one that is kept has the shape of the list.
void add_listed(Inspection& inspection, const CompressedStore& store) {
  for (std::size_t b = 0; b < store.architecture().layers; ++b) {
    const BlockWeights block = store.block(b);
    for (const TensorSpec& spec : tensors_of_block(store.architecture(), b)) {
      const CompressedTensor& tensor = *block.listed.at(*spec.listed).tensor;
      inspection.tensors.push_back({spec.hf_name, tensor.format(), spec.shape, tensor.bytes()});
    }
  }
}

/// What the manifest says, where it says it as expected.
struct ManifestProperty {
  const char* name;
  const char* pointer;
};
constexpr ManifestProperty kManifestProperties[] = {{"model", "/model/name"},
                                                    {"adze_version", "/version"},
                                                    {"recipe_hash", "/recipe/hash"},
                                                    {"calibration_hash", "/calibration/hash"},
                                                    {"calibration_windows", "/calibration/windows"},
                                                    {"calibration_tokens", "/calibration/tokens"},
                                                    {"kernels", "/kernels"},
                                                    {"stored_bytes", "/stored/bytes"},
                                                    {"bits_per_weight", "/stored/bits_per_weight"},
                                                    {"perplexity", "/evaluation/perplexity"}};

void add_value(Inspection& inspection, const char* name, const Json& value) {
  if (value.is_string()) return add(inspection, name, value.get<std::string>());
  if (value.is_number_unsigned()) return add(inspection, name, value.get<std::uint64_t>());
  if (value.is_number()) add(inspection, name, value.get<double>());
}

void add_losses(Inspection& inspection, const Json& manifest) {
  if (!manifest.contains("tensors") || !manifest["tensors"].is_array()) return;
  double sum = 0;
  double worst = 0;
  std::size_t count = 0;
  std::string worst_module;
  for (const Json& tensor : manifest["tensors"]) {
    if (!tensor.is_object() || !tensor.contains("relative_loss") || !tensor["relative_loss"].is_number()) continue;
    const double loss = tensor["relative_loss"].get<double>();
    sum += loss;
    ++count;
    if (loss < worst) continue;
    worst = loss;
    const bool named = tensor.contains("module") && tensor["module"].is_string();
    worst_module = named ? tensor["module"].get<std::string>() : "?";
  }
  if (count == 0) return;
  add(inspection, "solved_tensors", std::uint64_t{count});
  add(inspection, "mean_relative_loss", sum / static_cast<double>(count));
  add(inspection, "worst_relative_loss", worst);
  add(inspection, "worst_tensor", worst_module);
}

Json read_manifest(const Path& folder) {
  const Path path = folder / kManifestName;
  Json manifest = parse_json(read_file(path), path.string());
  if (!manifest.is_object()) fail(ErrorKind::bad_data, "{}: is no manifest of adze-compress", path.string());
  return manifest;
}

/// The files that a manifest lists. Throws bad_data for a list that no run writes.
std::vector<LedgerFile> listed_files(const Json& manifest) {
  std::vector<LedgerFile> files;
  if (!manifest.contains("files")) return files;
  for (const Json& file : manifest["files"]) {
    const bool whole = file.is_object() && file.contains("path") && file["path"].is_string() &&
                       file.contains("bytes") && file["bytes"].is_number_unsigned() && file.contains("xxh3") &&
                       file["xxh3"].is_string();
    if (!whole) fail(ErrorKind::bad_data, "the manifest's list of files is malformed: {}", file.dump());
    const Path path = file["path"].get<std::string>();
    if (path.is_absolute() || path.lexically_normal().string().starts_with(".."))
      fail(ErrorKind::bad_data, "the manifest lists '{}', which lies outside its folder", path.string());
    files.push_back({path.string(), file["bytes"].get<std::uint64_t>(), file["xxh3"].get<std::string>()});
  }
  return files;
}

void require_finite(const CompressedTensor& tensor, const std::string& name) {
  with_context(fmt::format("tensor '{}'", name), [&] { adze::require_finite(tensor); });
}

void verify_block(const BlockWeights& block, const Architecture& architecture, std::size_t index) {
  if (architecture.is_listed()) {
    for (const TensorSpec& spec : tensors_of_block(architecture, index))
      if (spec.is_matrix()) require_finite(*block.listed.at(*spec.listed).tensor, spec.hf_name);
    return;
  }
  for (const LinearInfo& info : block_linears(architecture))
    require_finite(*block[info.slot].weight, module_name(index, info));
}

}  // namespace

void describe_store_folder(const Path& path, Inspection& inspection) {
  const CompressedStore store(path);
  const Architecture& architecture = store.architecture();
  add_architecture(inspection, architecture);
  if (architecture.is_listed()) return add_listed(inspection, store);
  add_matrix(inspection, "embed_tokens", *store.embedding());
  if (const TensorPtr positions = store.positions()) add_matrix(inspection, std::string(kPositionsModule), *positions);
  for (std::size_t b = 0; b < architecture.layers; ++b) add_block(inspection, b, store.block(b), architecture);
  add_vector(inspection, "norm", store.final_norm());
  add_vector(inspection, "norm.bias", store.final_norm_bias());
  if (!architecture.tied) add_matrix(inspection, "lm_head", *store.head());
}

void verify_store_folder(const Path& path, Inspection& inspection, Progress& progress) {
  const CompressedStore store(path);
  const std::size_t layers = store.architecture().layers;
  progress.start("verifying", layers);
  if (!store.architecture().is_listed())
    check(inspection, [&] {
      require_finite(*store.embedding(), "embed_tokens");
      if (const TensorPtr positions = store.positions()) require_finite(*positions, std::string(kPositionsModule));
      require_finite(*store.head(), "lm_head");
    });
  for (std::size_t b = 0; b < layers; ++b) {
    check(inspection, [&] { verify_block(store.block(b), store.architecture(), b); });
    progress.update(b + 1);
  }
}

void describe_compressed(const Path& path, Inspection& inspection) {
  const Json manifest = read_manifest(path);
  for (const auto& [name, pointer] : kManifestProperties)
    if (const Json::json_pointer at(pointer); manifest.contains(at)) add_value(inspection, name, manifest.at(at));
  add_losses(inspection, manifest);
  std::vector<std::string> files;
  for (const LedgerFile& file : listed_files(manifest))
    if (!file.path.starts_with("store/")) files.push_back(fmt::format("{} ({} bytes)", file.path, file.bytes));
  add(inspection, "files", std::move(files));
  describe_store_folder(path / "store", inspection);
}

void verify_compressed(const Path& path, Inspection& inspection, Progress& progress) {
  for (const LedgerFile& file : listed_files(read_manifest(path)))
    if (!is_intact(path, file))
      inspection.damage.push_back(fmt::format("{}: missing, or not the {} bytes that the manifest lists",
                                              (path / file.path).string(), file.bytes));
  verify_store_folder(path / "store", inspection, progress);
}

void describe_unfinished(const Path& path, Inspection& inspection) {
  std::uint64_t blocks = 0;
  while (fs::exists(sidecar_path(path / "store" / block_file_name(blocks)))) ++blocks;
  add(inspection, "blocks_stored", blocks);
  add(inspection, "to_finish", std::string("run the same adze compress command again"));
}

void verify_unfinished(const Path& path, Inspection& inspection, Progress& progress) {
  std::uint64_t blocks = 0;
  progress.start("verifying", 0);
  for (;; ++blocks) {
    const Path file = path / "store" / block_file_name(blocks);
    if (!fs::exists(sidecar_path(file))) return;
    check(inspection, [&] { check_sidecar(file); });
  }
}

}  // namespace adze::inspecting
