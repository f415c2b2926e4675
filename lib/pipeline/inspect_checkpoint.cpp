// Inspection of safetensors files, Hugging Face folders and model stores.
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/words.h"
#include "checkpoint/folder_files.h"
#include "checkpoint/model_store.h"
#include "checkpoint/safetensors_folder.h"
#include "model/listing.h"
#include "model/multimodal.h"
#include "model/onnx/onnx_weights.h"
#include "model/packed/packed_weights.h"
#include "model/tensors.h"
#include "model/unfused_source.h"
#include "model/weights.h"
#include "pipeline/inspect_kinds.h"
#include "text/tokenizer.h"

namespace adze::inspecting {
namespace {

const std::string* text_of(std::span<const StoreFile> files, std::string_view name) {
  const auto at = std::ranges::find(files, name, &StoreFile::name);
  return at == files.end() ? nullptr : &at->text;
}

/// What adze makes of the model: its architecture, or why it cannot be compressed.
void add_model(Inspection& inspection, std::span<const StoreFile> files, std::shared_ptr<const TensorSource> source) {
  const std::string origin = (inspection.path / "config.json").string();
  try {
    if (const auto listed = listing_among(files, inspection.path.string())) {
      add_architecture(inspection, *listed);
      require_known(*listed, inspection.path.string());
    }
    const std::string* config = text_of(files, "config.json");
    if (config == nullptr) fail(ErrorKind::bad_data, "there is no config.json");
    const auto json = parse_json(*config, origin);
    if (is_multimodal(json) && is_packed_config(json, origin))
      fail(ErrorKind::bad_data, "{}: a model of text and images whose weights are packed is not supported", origin);
    const Architecture architecture = parse_architecture(json, origin);
    add_architecture(inspection,
                     CheckpointWeights(architecture, unfused_source(architecture, std::move(source))).architecture());
    add(inspection, "supported", true);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::bad_data) throw;
    add(inspection, "supported", false);
    add(inspection, "reason", error.message());
  }
}

void add_tokenizer(Inspection& inspection, std::span<const StoreFile> files) {
  const std::string* json = text_of(files, "tokenizer.json");
  if (json == nullptr) return add(inspection, "tokenizer", std::string("none"));
  try {
    const Tokenizer tokenizer = Tokenizer::from_json(*json, (inspection.path / "tokenizer.json").string());
    add(inspection, "tokenizer", fmt::format("byte-level BPE, {} tokens", tokenizer.size()));
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::bad_data) throw;
    add(inspection, "tokenizer", fmt::format("not supported: {}", error.message()));
  }
}

void add_files(Inspection& inspection, std::span<const StoreFile> files) {
  std::vector<std::string> names;
  for (const StoreFile& file : files) names.push_back(file.name);
  add(inspection, "files", std::move(names));
}

void add_tensors(Inspection& inspection, const TensorSource& source) {
  std::uint64_t parameters = 0;
  for (const TensorInfo& tensor : source.tensors()) {
    inspection.tensors.push_back({tensor.name, std::string(name_of(tensor.dtype)), tensor.shape, tensor.bytes});
    parameters += tensor.bytes / bytes_of(tensor.dtype);
  }
  add(inspection, "parameters", parameters);
}

/// A folder need not have a config.json to be described.
std::vector<StoreFile> files_of(const Path& folder) {
  return is_in_folder(folder, "config.json") ? read_folder_files(folder) : std::vector<StoreFile>();
}

void verify_source(const TensorSource& source, Inspection& inspection, Progress& progress) {
  progress.start("verifying", source.tensors().size());
  std::uint64_t done = 0;
  for (const TensorInfo& tensor : source.tensors()) {
    check(inspection, [&] {
      with_context(fmt::format("tensor '{}'", tensor.name), [&] {
        scan_tensor(tensor.bytes, tensor.dtype,
                    [&](std::uint64_t offset, std::span<std::byte> out) { source.read(tensor, offset, out); });
      });
    });
    progress.update(++done);
  }
}

}  // namespace

void describe_safetensors(const Path& path, Inspection& inspection) {
  const SafetensorsFile file(path);
  add(inspection, "file_bytes", file.file().size());
  for (const auto& [key, value] : file.metadata()) inspection.metadata.push_back({key, "STRING", value});
  for (const SafetensorsTensor& tensor : file.tensors())
    inspection.tensors.push_back({tensor.name, std::string(name_of(tensor.type)), tensor.shape, tensor.bytes()});
}

void verify_safetensors(const Path& path, Inspection& inspection, Progress& progress) {
  const SafetensorsFile file(path);
  progress.start("verifying", file.tensors().size());
  std::uint64_t done = 0;
  for (const SafetensorsTensor& tensor : file.tensors()) {
    check(inspection, [&] {
      with_context(fmt::format("tensor '{}'", tensor.name), [&] {
        scan_tensor(tensor.bytes(), dtype_of(tensor.type), [&](std::uint64_t offset, std::span<std::byte> out) {
          file.file().read(file.data_start() + tensor.begin + offset, out);
        });
      });
    });
    progress.update(++done);
  }
}

namespace {

/// Packed tensors as they lie in the files: what they mean takes reading them.
void describe_packed(const Path& path, std::span<const StoreFile> files, Inspection& inspection) {
  const PackedWeights weights(path);
  add_architecture(inspection, weights.architecture());
  add(inspection, "packed", std::string(weights.layout()));
  add(inspection, "supported", true);
  for (const SafetensorsFile& file : open_safetensors_files(path))
    for (const SafetensorsTensor& tensor : file.tensors())
      inspection.tensors.push_back({tensor.name, std::string(name_of(tensor.type)), tensor.shape, tensor.bytes()});
  add_tokenizer(inspection, files);
  add_files(inspection, files);
}

/// Initializers as they lie in the files.
void describe_onnx(const Path& path, std::span<const StoreFile> files, Inspection& inspection) {
  const OnnxWeights weights(path);
  add_architecture(inspection, weights.architecture());
  add(inspection, "packed", std::string("onnx"));
  add(inspection, "supported", true);
  for (const OnnxTensor& tensor : weights.file().tensors())
    inspection.tensors.push_back({tensor.name, std::string(onnx_type_name(tensor.type)), tensor.dims, tensor.bytes});
  add_tokenizer(inspection, files);
  add_files(inspection, files);
}

/// A method or an architecture that is not known is no reason not to describe the folder: its tensors as they lie
/// there.
bool is_packed(const Path& path, std::span<const StoreFile> files) {
  const std::string* const config = text_of(files, "config.json");
  const std::string origin = (path / "config.json").string();
  try {
    if (config == nullptr) return false;
    const auto json = parse_json(*config, origin);
    if (!is_packed_config(json, origin) || is_multimodal(json)) return false;
    parse_architecture(json, origin);
    return true;
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::bad_data) throw;
    return false;
  }
}

/// Every tensor decoded: sizes, group indices, finite values.
template <typename Weights>
void verify_decoded(const Weights& weights, Inspection& inspection, Progress& progress) {
  const std::vector<TensorSpec> specs = expected_tensors(weights.architecture());
  progress.start("verifying", specs.size());
  for (std::size_t i = 0; i < specs.size(); ++i) {
    check(inspection, [&] {
      if (specs[i].shape.size() == 2)
        weights.matrix(specs[i]);
      else
        weights.vector(specs[i]);
    });
    progress.update(i + 1);
  }
}

}  // namespace

void describe_checkpoint(const Path& path, Inspection& inspection) {
  describe_export(path, inspection);
  const std::vector<StoreFile> files = files_of(path);
  if (is_onnx_folder(path)) return describe_onnx(path, files, inspection);
  if (is_packed(path, files)) return describe_packed(path, files, inspection);
  const std::shared_ptr<const TensorSource> source = open_checkpoint_folder(path);
  add_model(inspection, files, source);
  if (std::vector<std::string> parts = left_out_parts(*source); !parts.empty())
    add(inspection, "left_out", std::move(parts));
  add_tensors(inspection, *source);
  add_tokenizer(inspection, files);
  add_files(inspection, files);
}

void verify_checkpoint(const Path& path, Inspection& inspection, Progress& progress) {
  verify_export(path, inspection, progress);
  if (is_onnx_folder(path)) return verify_decoded(OnnxWeights(path), inspection, progress);
  if (is_packed(path, files_of(path))) return verify_decoded(PackedWeights(path), inspection, progress);
  verify_source(*open_checkpoint_folder(path), inspection, progress);
}

void describe_model_store(const Path& path, Inspection& inspection) {
  const std::shared_ptr<const ModelStore> store = ModelStore::open(path);
  add_model(inspection, store->files(), store);
  add_tensors(inspection, *store);
  add_tokenizer(inspection, store->files());
  add_files(inspection, store->files());
  add(inspection, "weights", std::string(store->is_copy() ? "copied into the store" : "by reference"));
  std::vector<std::string> sources;
  for (const StoreSourceFile& source : store->source_files())
    sources.push_back(fmt::format("{} ({})", source.path, bytes_in_words(source.bytes)));
  if (!sources.empty()) add(inspection, "source_files", std::move(sources));
}

void verify_model_store(const Path& path, Inspection& inspection, Progress& progress) {
  verify_source(*ModelStore::open(path), inspection, progress);
}

}  // namespace adze::inspecting
