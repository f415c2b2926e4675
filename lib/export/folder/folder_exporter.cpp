#include "export/folder/folder_exporter.h"

#include <algorithm>
#include <array>
#include <map>
#include <numeric>
#include <set>
#include <system_error>

#include <nlohmann/json.hpp>

#include "base/checked.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/parallel.h"
#include "base/temporaries.h"
#include "export/folder/folder_format.h"
#include "export/folder/model_card.h"
#include "export/tensor_walk.h"
#include "model/packed/packed_weights.h"

namespace adze {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kConfig = "config.json";
constexpr const char* kIndex = "model.safetensors.index.json";
constexpr const char* kCard = "README.md";
constexpr std::uint64_t kShardBytes = 5'000'000'000;  // as the hub's own writer

/// A stored tensor, and which of the plan's it is a part of.
struct Part {
  SafetensorsSpec spec;
  std::size_t tensor = 0;
};

struct Shard {
  std::string name;
  std::vector<Part> parts;
};

/// Everything of a folder but the tensors' bytes.
struct Content {
  DType floats = DType::bf16;
  std::vector<Shard> shards;
  std::vector<StoreFile> files;  ///< config.json last
};

std::vector<SafetensorsSpec> specs_of(const Shard& shard) {
  std::vector<SafetensorsSpec> specs;
  for (const Part& part : shard.parts) specs.push_back(part.spec);
  return specs;
}

Json config_of(const ExportPlan& plan) {
  const auto config = std::ranges::find(plan.files, kConfig, &StoreFile::name);
  if (config == plan.files.end()) fail(ErrorKind::bad_data, "the model has no config.json to write");
  parse_json(config->text, kConfig);  // strict
  return Json::parse(config->text);
}

/// The dtype that config.json names; BF16 where it names none.
DType floats_of(const Json& config) {
  for (const char* const key : {"dtype", "torch_dtype"}) {
    if (config.contains(key) && config[key] == "float16") return DType::f16;
    if (config.contains(key) && config[key] == "float32") return DType::f32;
  }
  return DType::bf16;
}

/// A matrix' parts stay together; a shard ends before it would grow beyond the limit.
std::vector<Shard> shards_of(const ExportPlan& plan, const FolderFormat& format, DType floats) {
  const std::uint64_t limit = plan.split_max_bytes > 0 ? plan.split_max_bytes : kShardBytes;
  std::vector<Shard> shards(1);
  std::uint64_t bytes = 0;
  for (std::size_t t = 0; t < plan.tensors.size(); ++t) {
    const PlannedTensor& tensor = plan.tensors[t];
    std::vector<SafetensorsSpec> specs =
        tensor.spec.shape.size() == 2
            ? format.parts(tensor, floats)
            : std::vector<SafetensorsSpec>{{tensor.spec.hf_name, SafetensorsType::f32, tensor.spec.shape}};
    std::uint64_t more = 0;
    for (const SafetensorsSpec& spec : specs) more = checked_add(more, safetensors_bytes(spec.type, spec.shape));
    if (bytes > 0 && checked_add(bytes, more) > limit) {
      shards.emplace_back();
      bytes = 0;
    }
    bytes += more;
    for (SafetensorsSpec& spec : specs) shards.back().parts.push_back({std::move(spec), t});
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
      total += safetensors_bytes(part.spec.type, part.spec.shape);
    }
  return Json{{"metadata", {{"total_size", total}}}, {"weight_map", map}}.dump(2) + "\n";
}

Content content_of(const ExportPlan& plan, const FolderFormat& format, std::string_view name) {
  Content content;
  Json config = config_of(plan);
  for (const char* const key : {"quantization_config", "quantization"}) config.erase(key);  // of what it was
  content.floats = floats_of(config);
  format.describe(plan, config);
  content.shards = shards_of(plan, format, content.floats);
  if (content.shards.size() > 1) content.files.push_back({kIndex, index_text(content.shards)});
  for (StoreFile& file : format.more_files(config)) content.files.push_back(std::move(file));
  for (const StoreFile& file : plan.files)
    if (file.name != kConfig && file.name != kCard) content.files.push_back(file);
  content.files.push_back({kCard, model_card(plan, name)});
  content.files.push_back({kConfig, config.dump(2) + "\n"});
  return content;
}

std::vector<std::byte> vector_bytes(std::span<const float> values) {
  const auto bytes = std::as_bytes(values);
  return {bytes.begin(), bytes.end()};
}

/// "OUT/" names the folder OUT.
fs::path without_slash(const fs::path& path) { return path.has_filename() ? path : path.parent_path(); }

class FolderExporter final : public Exporter {
 public:
  FolderExporter(std::string_view name, std::unique_ptr<FolderFormat> format)
      : name_(name), format_(std::move(format)) {}

  std::optional<std::string> cannot_hold(const Architecture&, const PlannedTensor& tensor) const override {
    return tensor.spec.shape.size() == 2 ? format_->cannot_hold(tensor) : std::nullopt;
  }

  std::optional<std::string> remark(const Architecture&, const PlannedTensor& tensor) const override {
    return tensor.spec.shape.size() == 2 ? format_->remark(tensor) : std::nullopt;
  }

  std::uint64_t predict_bytes(const ExportPlan& plan) const override {
    const Content content = content_of(plan, *format_, name_);
    std::uint64_t bytes = 0;
    for (const Shard& shard : content.shards)
      bytes = checked_add(bytes, safetensors_file_bytes(specs_of(shard), format_->metadata()));
    for (const StoreFile& file : content.files) bytes = checked_add(bytes, file.text.size());
    return bytes;
  }

  std::vector<fs::path> files(const ExportPlan& plan, const fs::path& path) const override {
    const Content content = content_of(plan, *format_, name_);
    std::vector<fs::path> paths{path / kConfig};  // what says that the folder is a model
    for (const Shard& shard : content.shards) paths.push_back(path / shard.name);
    for (const StoreFile& file : content.files)
      if (file.name != kConfig) paths.push_back(path / file.name);
    return paths;
  }

  void write(const ExportPlan& plan, const ModelWeights& model, const fs::path& path,
             Progress& progress) const override {
    const Content content = with_context(path.string(), [&] { return content_of(plan, *format_, name_); });
    NewFolder folder(path);
    write_shards(plan, content, model, folder.path(), progress);
    for (const StoreFile& file : content.files) write_file(folder.path() / file.name, file.text);
    verify(plan, content, model, folder.path(), progress);
    folder.publish();
  }

 private:
  /// A folder beside its name until it is verified. One that is there is replaced if it is a model and nothing else.
  class NewFolder {
   public:
    explicit NewFolder(const fs::path& path) : final_(without_slash(path)), path_(final_.string() + ".tmp") {
      check_replaceable(final_, true);
      check_replaceable(path_, false);
      fs::remove_all(path_);  // of a run that was killed
      register_temporary_folder(path_);
      make_folder(path_);
    }
    ~NewFolder() {
      std::error_code ignored;
      if (!published_) fs::remove_all(path_, ignored);
      forget_temporary(path_);
    }
    NewFolder(const NewFolder&) = delete;
    NewFolder& operator=(const NewFolder&) = delete;

    const fs::path& path() const { return path_; }
    void publish() {
      check_replaceable(final_, true);
      fs::remove_all(final_);
      std::error_code error;
      fs::rename(path_, final_, error);
      if (error) fail(ErrorKind::io, "{}: cannot rename to {}: {}", path_.string(), final_.string(), error.message());
      published_ = true;
      sync_folder(fs::absolute(final_).parent_path());
    }

   private:
    /// Throws cannot_create unless there is nothing, an empty folder, or files of a model alone; a finished one has a
    /// config.json.
    static void check_replaceable(const fs::path& path, bool is_finished) {
      if (!fs::exists(fs::symlink_status(path))) return;
      if (!fs::is_directory(fs::symlink_status(path)))
        fail(ErrorKind::cannot_create, "{}: this format is a folder, and there is a file of that name", path.string());
      for (const fs::directory_entry& entry : fs::directory_iterator(path))
        if (!entry.is_regular_file() || !is_model_file(entry.path().filename().string()))
          fail(ErrorKind::cannot_create, "{}: holds '{}', which is of no model: name another folder", path.string(),
               entry.path().filename().string());
      if (is_finished && !fs::is_empty(path) && !fs::exists(path / kConfig))
        fail(ErrorKind::cannot_create, "{}: holds files and no {}: name another folder", path.string(), kConfig);
    }

    fs::path final_, path_;
    bool published_ = false;
  };

  void write_shards(const ExportPlan& plan, const Content& content, const ModelWeights& model, const fs::path& folder,
                    Progress& progress) const {
    std::size_t count = 0, done = 0;
    for (const Shard& shard : content.shards) count += shard.parts.size();
    progress.start("writing", count);
    PartMaker maker(plan, *format_, model);
    for (const Shard& shard : content.shards) {
      SafetensorsWriter writer(folder / shard.name, specs_of(shard), format_->metadata());
      maker.begin(shard);
      for (const SafetensorsTensor& tensor : writer.order()) {
        with_context(fmt::format("tensor '{}'", tensor.name),
                     [&] { writer.write(tensor.name, maker.take(tensor.name)); });
        progress.update(++done);
      }
      writer.commit();
    }
  }

  /// Makes parts in the order of a file, which goes by dtype: scales come long after the codes of their matrix. When a
  /// block is there, what is small of it is made at once and kept, as long as all that is kept takes no more than the
  /// largest tensor; the rest is loaded again.
  class PartMaker {
   public:
    PartMaker(const ExportPlan& plan, const FolderFormat& format, const ModelWeights& model)
        : plan_(plan), format_(format), walk_(model, by_name(model.architecture().layers)) {}

    void begin(const Shard& shard) {
      parts_.clear();
      of_tensor_.clear();
      kept_.clear();
      room_ = 0;
      for (const Part& part : shard.parts) {
        parts_[part.spec.name] = &part;
        of_tensor_[part.tensor].push_back(&part);
        room_ = std::max(room_, bytes_of_part(part));
      }
    }

    std::vector<std::byte> take(const std::string& name) {
      if (const auto kept = kept_.find(name); kept != kept_.end()) {
        std::vector<std::byte> bytes = std::move(kept->second);
        parts_.erase(name);
        room_ += bytes.size();
        kept_.erase(kept);
        return bytes;
      }
      const Part& part = *parts_.at(name);
      parts_.erase(name);
      bool is_loaded = false;
      std::vector<std::byte> bytes = make(part, is_loaded);
      if (is_loaded) keep_what_is_small(part);
      return bytes;
    }

   private:
    /// Blocks in the order of their tensors' names.
    static std::vector<std::size_t> by_name(std::size_t layers) {
      std::vector<std::size_t> order(layers);
      std::iota(order.begin(), order.end(), std::size_t{0});
      std::ranges::sort(order, {}, [](std::size_t block) { return fmt::format("{}.", block); });
      return order;
    }
    static std::uint64_t bytes_of_part(const Part& part) { return safetensors_bytes(part.spec.type, part.spec.shape); }

    std::vector<std::byte> make(const Part& part, bool& is_loaded) {
      const PlannedTensor& planned = plan_.tensors[part.tensor];
      if (planned.spec.shape.size() == 1) return vector_bytes(walk_.at(planned.spec).vector);
      return format_.encode(planned, part.spec, [&] {
        is_loaded = true;
        TensorPtr matrix = walk_.at(planned.spec).matrix;
        if (matrix->format() != planned.format)
          fail(ErrorKind::internal, "{} in the model, {} planned", matrix->format(), planned.format);
        return matrix;
      });
    }

    /// Other parts of the matrix, and the block's norms and biases.
    void keep_what_is_small(const Part& now) {
      for (const Part* const other : of_tensor_[now.tensor]) keep(*other, now);
      const std::optional<std::size_t> block = plan_.tensors[now.tensor].spec.block;
      if (!block || !vectors_of_.insert(*block).second) return;
      for (const auto& [tensor, parts] : of_tensor_)
        if (plan_.tensors[tensor].spec.block == block && plan_.tensors[tensor].spec.shape.size() == 1)
          keep(*parts.front(), now);
    }

    void keep(const Part& part, const Part& now) {
      const std::uint64_t bytes = bytes_of_part(part);
      if (&part == &now || bytes > bytes_of_part(now) / 4 || bytes > room_ || !parts_.contains(part.spec.name) ||
          kept_.contains(part.spec.name))
        return;
      bool ignored = false;
      kept_[part.spec.name] = make(part, ignored);
      room_ -= bytes;
    }

    const ExportPlan& plan_;
    const FolderFormat& format_;
    TensorWalk walk_;
    std::map<std::string, const Part*> parts_;
    std::map<std::size_t, std::vector<const Part*>> of_tensor_;
    std::set<std::size_t> vectors_of_;
    std::map<std::string, std::vector<std::byte>> kept_;
    std::uint64_t room_ = 0;
  };

  /// Reads the folder as any reader of adze would, which shares no code with what wrote it.
  void verify(const ExportPlan& plan, const Content& content, const ModelWeights& model, const fs::path& folder,
              Progress& progress) const {
    const std::unique_ptr<ModelWeights> written = open_folder_model(folder);
    std::vector<std::size_t> order(plan.architecture.layers);
    std::iota(order.begin(), order.end(), std::size_t{0});
    TensorWalk in_file(*written), in_model(model, order);
    progress.start("verifying", plan.tensors.size());
    for (std::size_t t = 0; t < plan.tensors.size(); ++t) {
      const TensorSpec& spec = plan.tensors[t].spec;
      with_context(fmt::format("{}: tensor '{}'", folder.string(), spec.hf_name), [&] {
        const TensorValues left = in_file.at(spec), right = in_model.at(spec);
        if (right.matrix)
          compare(*left.matrix, *format_->as_stored(right.matrix, content.floats));
        else if (left.vector != right.vector)
          fail(ErrorKind::internal, "what was written is not what was meant");
      });
      progress.update(t + 1);
    }
  }

  static void compare(const CompressedTensor& written, const CompressedTensor& meant) {
    constexpr std::size_t kTileRows = 64;
    const Shape shape = meant.shape();
    if (written.shape() != shape) fail(ErrorKind::internal, "another shape");
    if (written.format() == meant.format() && std::ranges::equal(written.payload(), meant.payload())) return;
    std::vector<std::uint8_t> differs(divide_up(shape.rows, kTileRows));
    parallel_for(differs.size(), [&](std::size_t tile) {
      const std::size_t first = tile * kTileRows, count = std::min(kTileRows, shape.rows - first);
      std::vector<float> left(count * shape.cols), right(count * shape.cols);
      written.decode_rows(first, count, left);
      meant.decode_rows(first, count, right);
      differs[tile] = left != right;
    });
    if (const auto at = std::ranges::find(differs, 1); at != differs.end())
      fail(ErrorKind::internal, "rows from {} on differ from the model", (at - differs.begin()) * kTileRows);
  }

  std::string_view name_;
  std::unique_ptr<FolderFormat> format_;
};

}  // namespace

bool is_model_file(std::string_view name) {
  constexpr std::array<std::string_view, 10> kNames{kConfig,
                                                    kIndex,
                                                    kCard,
                                                    "model.safetensors",
                                                    "quantize_config.json",
                                                    "generation_config.json",
                                                    "tokenizer.json",
                                                    "tokenizer_config.json",
                                                    "chat_template.jinja",
                                                    "special_tokens_map.json"};
  constexpr std::string_view kWriting = ".tmp";
  if (name.ends_with(kWriting)) name.remove_suffix(kWriting.size());
  return std::ranges::find(kNames, name) != kNames.end() ||
         (name.starts_with("model-") && name.ends_with(".safetensors"));
}

std::unique_ptr<Exporter> make_safetensors_exporter() {
  return std::make_unique<FolderExporter>("safetensors", make_plain_format());
}
std::unique_ptr<Exporter> make_compressed_tensors_exporter() {
  return std::make_unique<FolderExporter>("compressed-tensors", make_compressed_tensors_format());
}
std::unique_ptr<Exporter> make_gptq_exporter() { return std::make_unique<FolderExporter>("gptq", make_gptq_format()); }
std::unique_ptr<Exporter> make_awq_exporter() { return std::make_unique<FolderExporter>("awq", make_awq_format()); }
std::unique_ptr<Exporter> make_mlx_exporter() { return std::make_unique<FolderExporter>("mlx", make_mlx_format()); }

}  // namespace adze
