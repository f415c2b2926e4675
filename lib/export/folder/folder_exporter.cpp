#include "export/folder/folder_exporter.h"

#include <map>
#include <set>

#include <nlohmann/json.hpp>

#include "base/background.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "checkpoint/export_manifest.h"
#include "export/compare_models.h"
#include "export/folder/cache_scales.h"
#include "export/folder/kept_config.h"
#include "export/folder/model_card.h"
#include "export/folder/new_folder.h"
#include "export/folder/part_maker.h"
#include "model/listing.h"
#include "model/packed/packed_weights.h"

namespace adze {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kConfig = kModelConfigName;
constexpr const char* kIndex = "model.safetensors.index.json";
constexpr const char* kCard = "README.md";
constexpr std::uint64_t kShardBytes = 5'000'000'000;  // as the hub's own writer

/// Everything of a folder but the tensors' bytes.
struct Content {
  DType floats = DType::bf16;
  std::vector<Shard> shards;
  std::vector<StoreFile> files;  ///< config.json last
  ExportManifest manifest;       ///< tensors' hashes and places to come
};

std::vector<SafetensorsSpec> specs_of(const Shard& shard) {
  std::vector<SafetensorsSpec> specs;
  for (const Part& part : shard.parts) specs.push_back(part.spec);
  return specs;
}

/// The dtype that config.json names. Where it names none, BF16; of a model that is a list of tensors, that of its
/// matrices, F32 where they have several.
DType floats_of(const Json& config, const ExportPlan& plan) {
  for (const char* const key : {"dtype", "torch_dtype"}) {
    if (config.contains(key) && config[key] == "float16") return DType::f16;
    if (config.contains(key) && config[key] == "float32") return DType::f32;
    if (config.contains(key) && config[key] == "bfloat16") return DType::bf16;
  }
  std::set<DType> listed;
  for (const PlannedTensor& tensor : plan.tensors)
    if (tensor.spec.listed && tensor.spec.is_matrix()) listed.insert(tensor.spec.dtype);
  if (listed.empty()) return DType::bf16;
  return listed.size() == 1 ? *listed.begin() : DType::f32;
}

/// The tensors of a folder that a tensor of the plan becomes.
std::vector<SafetensorsSpec> specs_of(const PlannedTensor& tensor, const FolderFormat& format, DType floats) {
  if (tensor.spec.is_matrix()) return format.parts(tensor, floats);
  return {{tensor.spec.hf_name, safetensors_type_of(*dtype_from_name(tensor.format)), tensor.spec.shape}};
}

/// A matrix' parts stay together; a shard ends before it would grow beyond the limit.
std::vector<Shard> shards_of(const ExportPlan& plan, const FolderFormat& format, DType floats) {
  const std::uint64_t limit = plan.split_max_bytes > 0 ? plan.split_max_bytes : kShardBytes;
  std::vector<Shard> shards(1);
  std::uint64_t bytes = 0;
  for (std::size_t t = 0; t < plan.tensors.size(); ++t) {
    const PlannedTensor& tensor = plan.tensors[t];
    std::vector<SafetensorsSpec> specs = specs_of(tensor, format, floats);
    std::uint64_t more = 0;
    for (const SafetensorsSpec& spec : specs) more = checked_add(more, safetensors_bytes(spec.type, spec.shape));
    if (bytes > 0 && checked_add(bytes, more) > limit) {
      shards.emplace_back();
      bytes = 0;
    }
    bytes += more;
    for (SafetensorsSpec& spec : specs) shards.back().parts.push_back({std::move(spec), t});
    if (auto scale = cache_scale_part(plan, tensor)) shards.back().parts.push_back({std::move(*scale), t, true});
  }
  for (std::size_t s = 0; s < shards.size(); ++s)
    shards[s].name = shards.size() == 1 ? "model.safetensors"
                                        : fmt::format("model-{:05}-of-{:05}.safetensors", s + 1, shards.size());
  return shards;
}

std::string index_text(const std::vector<Shard>& shards) {
  std::map<std::string, std::string> map;
  std::uint64_t total = 0;
  for (const Shard& shard : shards)
    for (const Part& part : shard.parts) {
      map[part.spec.name] = shard.name;
      total += part.bytes();
    }
  return Json{{"metadata", {{"total_size", total}}}, {"weight_map", map}}.dump(2) + "\n";
}

/// What a matrix adds to a folder of such shards: its parts in a shard, the manifest and, of several, the index. All of
/// them are taken to lie behind as many bytes.
std::uint64_t own_bytes_of(const PlannedTensor& tensor, const FolderFormat& format, DType floats,
                           const std::vector<Shard>& shards, std::uint64_t before) {
  std::uint64_t bytes = 0;
  for (const SafetensorsSpec& part : specs_of(tensor, format, floats)) {
    const std::string& shard = shards.front().name;
    bytes = checked_add(bytes, bytes_in_safetensors(part, before));
    bytes += bytes_in_export_manifest({part.name, shard, before, safetensors_bytes(part.type, part.shape), ""});
    if (shards.size() > 1) bytes += fmt::format("    \"{}\": \"{}\",\n", part.name, shard).size();
  }
  return bytes;
}

ExportManifest manifest_of(const ExportPlan& plan, const Content& content, const FolderFormat& format,
                           std::string_view name) {
  ExportManifest manifest{std::string(name), plan.provenance, {}, {}};
  for (const StoreFile& file : content.files) manifest.files.push_back({file.name, hash_hex(file.text)});
  for (const Shard& shard : content.shards) {
    const SafetensorsLayout layout = safetensors_layout(specs_of(shard), format.metadata());
    manifest.tensors.push_back({"its header", shard.name, 0, layout.data_start, ""});
    for (const SafetensorsTensor& tensor : layout.tensors)
      manifest.tensors.push_back({tensor.name, shard.name, layout.data_start + tensor.begin, tensor.bytes(), ""});
  }
  return manifest;
}

Content content_of(const ExportPlan& plan, const FolderFormat& format, std::string_view name) {
  if (plan.cache != CacheScales::none && !format.holds_cache_scales())
    fail(ErrorKind::bad_data, "{} has no place for scales of a cache", name);
  Content content;
  Json config = kept_config(plan);
  content.floats = floats_of(config, plan);
  format.describe(plan, config);
  content.shards = shards_of(plan, format, content.floats);
  if (content.shards.size() > 1) content.files.push_back({kIndex, index_text(content.shards)});
  for (StoreFile& file : format.more_files(config)) content.files.push_back(std::move(file));
  for (const StoreFile& file : plan.files)
    if (file.name != kConfig && file.name != kCard && file.name != kListingFile) content.files.push_back(file);
  content.files.push_back({kCard, model_card(plan, name)});
  content.files.push_back({kConfig, config.dump(2) + "\n"});
  content.manifest = manifest_of(plan, content, format, name);
  return content;
}

class FolderExporter final : public Exporter {
 public:
  FolderExporter(std::string_view name, std::unique_ptr<FolderFormat> format)
      : name_(name), format_(std::move(format)) {}

  std::optional<std::string> cannot_hold(const Architecture& architecture, const PlannedTensor& tensor) const override {
    if (tensor.spec.role == TensorRole::embedding)  // of the whole folder, but said once
      if (auto reason = format_->refuses_model(architecture)) return reason;
    return tensor.spec.is_matrix() ? format_->cannot_hold(tensor) : std::nullopt;
  }

  std::optional<std::string> remark(const Architecture& architecture, const PlannedTensor& tensor) const override {
    if (tensor.spec.role == TensorRole::embedding && architecture.rotary_dim > 0)
      return fmt::format(
          "{} with heads rotated in part is for vLLM, which reads partial_rotary_factor; Transformers does not",
          architecture.family);
    return tensor.spec.is_matrix() ? format_->remark(tensor) : std::nullopt;
  }

  bool holds_cache_scales() const override { return format_->holds_cache_scales(); }

  std::uint64_t predict_bytes(const ExportPlan& plan) const override {
    const Content content = content_of(plan, *format_, name_);
    std::uint64_t bytes = 0;
    for (const Shard& shard : content.shards)
      bytes = checked_add(bytes, safetensors_file_bytes(specs_of(shard), format_->metadata()));
    for (const StoreFile& file : content.files) bytes = checked_add(bytes, file.text.size());
    return checked_add(bytes, content.manifest.text().size());
  }

  OwnBytes own_bytes(const ExportPlan& plan) const override {
    const DType floats = floats_of(kept_config(plan), plan);
    std::vector<Shard> shards = shards_of(plan, *format_, floats);
    std::uint64_t half = 0;  // places lie between the beginning of a shard and its end
    for (const Part& part : shards.front().parts) half += part.bytes() / 2;
    return [this, floats, shards = std::move(shards), half](const PlannedTensor& tensor) {
      if (const auto reason = format_->cannot_hold(tensor)) fail(ErrorKind::bad_data, "{}", *reason);
      return own_bytes_of(tensor, *format_, floats, shards, half);
    };
  }

  std::vector<fs::path> files(const ExportPlan& plan, const fs::path& path) const override {
    const Content content = content_of(plan, *format_, name_);
    std::vector<fs::path> paths{path / kConfig};  // what says that the folder is a model
    for (const Shard& shard : content.shards) paths.push_back(path / shard.name);
    for (const StoreFile& file : content.files)
      if (file.name != kConfig) paths.push_back(path / file.name);
    paths.push_back(path / kExportManifestName);
    return paths;
  }

  void write(const ExportPlan& plan, const ModelWeights& model, const fs::path& path,
             Progress& progress) const override {
    Content content = with_context(path.string(), [&] { return content_of(plan, *format_, name_); });
    NewFolder folder(path);
    const MeantTensors meant = write_shards(plan, content, model, folder.path(), progress);
    for (const StoreFile& file : content.files) write_file(folder.path() / file.name, file.text, Durable::later);
    write_file(folder.path() / kExportManifestName, content.manifest.text(), Durable::later);
    folder.begin_sync();
    verify(plan, content, model, meant, folder.path(), progress);
    folder.publish();
  }

 private:
  /// Notes hashes in the manifest, which has the tensors in the order in which they are written. Parts are written
  /// while the next ones are made, and wait for that as long as together they take no more than the largest.
  MeantTensors write_shards(const ExportPlan& plan, Content& content, const ModelWeights& model, const fs::path& folder,
                            Progress& progress) const {
    std::size_t count = 0, done = 0;
    std::uint64_t largest = 0;
    for (const Shard& shard : content.shards) {
      count += shard.parts.size();
      for (const Part& part : shard.parts) largest = std::max(largest, part.bytes());
    }
    progress.start("writing", count);
    PartMaker maker(plan, *format_, content.floats, model);
    auto next = content.manifest.tensors.begin();
    for (const Shard& shard : content.shards) {
      SafetensorsWriter writer(folder / shard.name, specs_of(shard), format_->metadata());
      maker.begin(shard, writer.order());
      const auto header = next++;
      Background writing(largest);  // ends before what it writes to
      for (const SafetensorsTensor& tensor : writer.order()) {
        SharedBytes bytes =
            with_context(fmt::format("tensor '{}'", tensor.name), [&] { return maker.take(tensor.name); });
        writing.run(
            [&writer, &tensor, &hash = next->hash, bytes = std::move(bytes)] {
              hash = hash_in_pieces(bytes, [&](std::span<const std::byte> piece) { writer.write(tensor.name, piece); });
            },
            tensor.bytes());
        ++next;
        progress.update(++done);
      }
      writing.wait();
      writer.commit(Durable::later);
      std::vector<std::byte> text(checked_cast<std::size_t>(header->bytes));
      InputFile(folder / shard.name).read(0, text);
      header->hash = hash_hex(text);
    }
    return maker.meant();
  }

  /// Reads the folder as any reader of adze would, which shares no code with what wrote it.
  void verify(const ExportPlan& plan, const Content& content, const ModelWeights& model, const MeantTensors& meant,
              const fs::path& folder, Progress& progress) const {
    const std::unique_ptr<ModelWeights> written =
        plan.architecture.is_listed() ? open_listed_folder(folder, plan.architecture) : open_folder_model(folder);
    compare_models(
        plan, *written, model, [&](const TensorPtr& matrix) { return format_->as_stored(matrix, content.floats); },
        meant, folder.string(), progress);
    if (plan.cache != CacheScales::none) verify_cache_scales(folder, model, progress);
  }

  std::string_view name_;
  std::unique_ptr<FolderFormat> format_;
};

}  // namespace

std::unique_ptr<Exporter> make_safetensors_exporter() {
  return std::make_unique<FolderExporter>("safetensors", make_plain_format());
}
std::unique_ptr<Exporter> make_compressed_tensors_exporter() {
  return std::make_unique<FolderExporter>("compressed-tensors", make_compressed_tensors_format(Activations::floats));
}
std::unique_ptr<Exporter> make_w8a8_exporter() {
  return std::make_unique<FolderExporter>("compressed-tensors-w8a8",
                                          make_compressed_tensors_format(Activations::eight_bits));
}
std::unique_ptr<Exporter> make_gptq_exporter() { return std::make_unique<FolderExporter>("gptq", make_gptq_format()); }
std::unique_ptr<Exporter> make_awq_exporter() { return std::make_unique<FolderExporter>("awq", make_awq_format()); }
std::unique_ptr<Exporter> make_mlx_exporter() { return std::make_unique<FolderExporter>("mlx", make_mlx_format()); }

}  // namespace adze
