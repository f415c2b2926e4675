#include "pipeline/open_model.h"

#include <algorithm>
#include <array>
#include <set>
#include <system_error>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "checkpoint/model_store.h"
#include "checkpoint/safetensors_folder.h"
#include "model/compressed_store.h"
#include "model/gguf_files.h"
#include "model/gguf_source.h"
#include "model/gguf_tokenizer.h"
#include "model/gguf_weights.h"
#include "model/listing.h"
#include "model/multimodal.h"
#include "model/onnx/onnx_weights.h"
#include "model/pack/pack_weights.h"
#include "model/packed/packed_weights.h"
#include "model/unfused_source.h"
#include "pipeline/work_folder.h"

namespace adze {
namespace {

namespace fs = std::filesystem;

/// The last part of a folder's name, of "MODEL/" too.
std::string folder_name(const fs::path& folder) {
  const fs::path absolute = fs::absolute(folder).lexically_normal();
  return (absolute.has_filename() ? absolute.filename() : absolute.parent_path().filename()).string();
}

void load_tokenizer(OpenedModel& model) {
  if (model.architecture().is_listed()) return;  // nobody will read text, and it may be of a kind that we do not read
  if (model.tokenizer || !model.tokenizer_problem.empty()) return;
  if (const std::string* text = model.file("tokenizer.json"))
    model.tokenizer = Tokenizer::from_json(*text, (model.path / "tokenizer.json").string());
}

void load_weights(OpenedModel& model) {
  if (auto listed = listing_among(model.files, model.path.string())) {
    model.weights = std::make_shared<CheckpointWeights>(std::move(*listed), model.source);
    return;
  }
  const std::string* config = model.file("config.json");
  if (config == nullptr) fail(ErrorKind::bad_data, "{}: holds no config.json", model.path.string());
  const std::string origin = (model.path / "config.json").string();
  model.weights =
      std::make_shared<CheckpointWeights>(parse_architecture(parse_json(*config, origin), origin), model.source);
}

/// config.json with another class: an architecture that we do not know, taken for one that we do.
void take_for(const std::string& hf_class, OpenedModel& model) {
  const FamilyInfo& family = family_of(hf_class);
  const auto config = std::ranges::find(model.files, "config.json", &StoreFile::name);
  const std::string origin = (model.path / "config.json").string();
  parse_json(config->text, origin);  // strict
  auto json = nlohmann::ordered_json::parse(config->text);
  if (!json.is_object()) fail(ErrorKind::bad_data, "{}: expected a JSON object", origin);
  json["architectures"] = {family.hf_class};
  json["model_type"] = family.model_type;
  config->text = json.dump(2) + "\n";
}

void refuse_like(const OpenModelOptions& options) {
  if (!options.like.empty())
    fail(ErrorKind::usage, "--like is for folders of float weights, whose config.json names a class");
}

/// A folder of floats whatever its architecture, with config.json or without.
void open_listed(OpenedModel& model) {
  const std::string origin = (model.path / "config.json").string();
  model.files = read_folder_files(model.path, NeedsConfig::no);
  const std::string* const config = model.file("config.json");
  if (is_onnx_folder(model.path) || (config != nullptr && is_packed_config(parse_json(*config, origin), origin)))
    fail(ErrorKind::usage, "--weights-only is for folders of float weights, and those of {} are packed",
         model.path.string());
  model.source = open_checkpoint_folder(model.path);
  model.files.push_back({kListingFile, listing_text(list_tensors(*model.source))});
  load_weights(model);
}

void open_folder(OpenedModel& model, const OpenModelOptions& options) {
  if (options.weights_only) return open_listed(model);
  if (!is_in_folder(model.path, "config.json") &&
      (is_in_folder(model.path, "model.safetensors") || is_in_folder(model.path, "model.safetensors.index.json")))
    fail(ErrorKind::missing_input, "{}: no config.json beside its safetensors, which would say its architecture; {}",
         model.path.string(), kWeightsOnlyHint);
  model.files = read_folder_files(model.path);
  if (!options.like.empty()) take_for(options.like, model);
  if (is_onnx_folder(model.path)) {
    refuse_like(options);
    auto onnx = std::make_shared<OnnxWeights>(model.path);
    model.weights = onnx;
    model.parts = onnx->file().files();
    model.source = std::make_shared<OnnxSource>(std::move(onnx));
    return;
  }
  const std::string origin = (model.path / "config.json").string();
  if (is_packed_config(parse_json(*model.file("config.json"), origin), origin)) {
    refuse_like(options);
    auto packed = std::make_shared<PackedWeights>(model.path);
    model.weights = packed;
    model.parts = packed->files();
    model.source = std::make_shared<PackedSource>(std::move(packed));
    return;
  }
  const auto config = std::ranges::find(model.files, "config.json", &StoreFile::name);
  config->text = unfused_config(config->text, origin);
  const Architecture architecture = parse_architecture(parse_json(config->text, origin), origin);
  std::shared_ptr<const TensorSource> stored = open_checkpoint_folder(model.path);
  model.left_out = left_out_parts(*stored);
  model.source = unfused_source(architecture, std::move(stored));
  load_weights(model);
}

/// Names from a GGUF are shown to people: no control characters that would steer a terminal.
bool is_showable(std::string_view name) {
  return !name.empty() && std::ranges::none_of(name, [](unsigned char c) { return c < 0x20 || c == 0x7F; });
}

/// What the GGUF said that the store was made of; else the checkpoint's folder; else the store's own name.
std::string store_name(const OpenedModel& model, const ModelStore& store) {
  if (const std::string* keys = store.file(kGgufKeysFile)) {
    const nlohmann::json said = parse_json(*keys, model.path.string());
    if (said.is_object() && said.contains("general.name") && said["general.name"].is_string())
      if (std::string name = said["general.name"]; is_showable(name)) return name;
  }
  if (store.source_files().empty()) return model.path.stem().string();
  return folder_name((fs::absolute(model.path).parent_path() / store.source_files()[0].path).parent_path());
}

void open_store(OpenedModel& model, const OpenModelOptions& options) {
  std::shared_ptr<ModelStore> store = ModelStore::open(model.path, {options.source, options.trust});
  model.files.assign(store->files().begin(), store->files().end());
  model.name = store_name(model, *store);
  model.source = std::move(store);
  load_weights(model);
}

void open_compressed(OpenedModel& model, const OpenModelOptions&) {
  auto store = std::make_shared<CompressedStore>(model.path / "store");
  model.files = store->files();
  model.weights = std::move(store);
}

/// The message of bad data: what a GGUF lacks need not be wanted.
template <typename Body>
std::string problem_of(Body&& body) {
  try {
    body();
    return "";
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::bad_data) throw;
    return error.message();
  }
}

/// The runtime refuses a vocabulary of another size than the embedding table's.
void check_token_count(const GgufFile& file, std::size_t rows) {
  const auto* const tokens = file.find<std::vector<std::string>>("tokenizer.ggml.tokens");
  if (tokens != nullptr && tokens->size() != rows)
    fail(ErrorKind::bad_data, "{}: tokenizer.ggml.tokens has {} entries, the embedding {} rows", file.path().string(),
         tokens->size(), rows);
}

void open_gguf_file(OpenedModel& model, const OpenModelOptions&) {
  const auto weights = std::make_shared<GgufWeights>(model.path);
  model.weights = weights;
  for (const GgufFile& file : weights->files()) model.parts.push_back(file.path());
  model.name = gguf_model_name(weights->files().front());
  if (!is_showable(model.name)) model.name = model.path.stem().string();
  model.source_problem = problem_of([&] {
    model.files = gguf_settings_files(*weights);
    model.source = std::make_shared<GgufSource>(weights);
  });
  model.tokenizer_problem = problem_of([&] {
    check_token_count(weights->files().front(), weights->architecture().vocab);
    const GgufTokenizerFiles tokenizer = tokenizer_from_gguf(weights->files().front());
    model.tokenizer = Tokenizer::from_json(tokenizer.tokenizer_json, model.path.string() + ": tokenizer");
    model.files.push_back({"tokenizer.json", tokenizer.tokenizer_json});
    model.files.push_back({"tokenizer_config.json", tokenizer.tokenizer_config_json});
  });
}

/// Of a pack's files only those that adze keeps of a folder (read_folder_files) or a GGUF file: a folder made of a pack
/// must not have a "model.onnx" of somebody else's.
constexpr std::array<std::string_view, 8> kKeptOfPacks{
    "config.json",         "generation_config.json",  "tokenizer.json", "tokenizer_config.json",
    "chat_template.jinja", "special_tokens_map.json", "README.md",      kGgufKeysFile};

bool is_printable_ascii(std::string_view text) {
  return std::ranges::all_of(text, [](unsigned char c) { return c >= 0x20 && c < 0x7F; });
}

/// What a pack says of its making, as far as exporters can pass it on: other writers' keys are not. How well codes were
/// coded is true of the one file only.
std::vector<std::pair<std::string, std::string>> kept_provenance(const PackManifest& manifest) {
  std::vector<std::pair<std::string, std::string>> kept;
  std::set<std::string> seen;
  for (const auto& [key, value] : manifest.provenance)
    if (key.starts_with("adze.") && key != "adze.entropy" && is_printable_ascii(key) && is_printable_ascii(value) &&
        seen.insert(key).second)
      kept.emplace_back(key, value);
  return kept;
}

/// A pack, or a delta and its base. A base is no delta itself: one is given.
std::shared_ptr<PackWeights> open_pack_weights(const fs::path& path, const OpenModelOptions& options) {
  const PackFile pack(path);
  if (!pack.manifest().base) return std::make_shared<PackWeights>(path);
  if (!options.base) fail(ErrorKind::missing_input, "{}", missing_base_message(pack));
  OpenModelOptions of_base = options;
  of_base.base.reset();
  of_base.weights_only = of_base.takes_lists = false;
  return std::make_shared<PackWeights>(path, base_model(open_model(*options.base, of_base)));
}

void open_pack(OpenedModel& model, const OpenModelOptions& options) {
  auto weights = open_pack_weights(model.path, options);
  const PackManifest& manifest = weights->pack().manifest();
  model.name = is_showable(manifest.name) ? manifest.name : model.path.stem().string();
  model.provenance = kept_provenance(manifest);
  model.files = weights->files();
  std::erase_if(model.files, [](const StoreFile& file) { return !std::ranges::count(kKeptOfPacks, file.name); });
  model.parts = {model.path};
  model.weights = weights;
  if (model.file("config.json") == nullptr)
    model.source_problem = fmt::format("{}: holds no config.json", model.path.string());
  else
    model.source = std::make_shared<PackSource>(std::move(weights));
}

struct KindRow {
  ModelKind kind;
  std::string_view name;
  void (*open)(OpenedModel&, const OpenModelOptions&);
};
constexpr KindRow kKinds[] = {{ModelKind::checkpoint_folder, "checkpoint", open_folder},
                              {ModelKind::model_store, "model store", open_store},
                              {ModelKind::compressed, "compressed model", open_compressed},
                              {ModelKind::gguf, "GGUF file", open_gguf_file},
                              {ModelKind::pack, "pack", open_pack}};

const KindRow& row_of(ModelKind kind) { return kKinds[static_cast<std::size_t>(kind)]; }

}  // namespace

std::string_view name_of(ModelKind kind) { return row_of(kind).name; }

const std::string* OpenedModel::file(std::string_view file_name) const {
  for (const StoreFile& kept : files)
    if (kept.name == file_name) return &kept.text;
  return nullptr;
}

const Tokenizer& OpenedModel::require_tokenizer() const {
  if (!tokenizer_problem.empty()) fail(ErrorKind::bad_data, "{}", tokenizer_problem);
  if (!tokenizer)
    fail(ErrorKind::bad_data, "{}: has no tokenizer.json, so text cannot be read; put the checkpoint's into it",
         path.string());
  return *tokenizer;
}

const TensorSource& OpenedModel::require_source() const {
  if (!source_problem.empty()) fail(ErrorKind::bad_data, "{}", source_problem);
  if (!source)
    fail(ErrorKind::bad_data,
         "{}: is a {}; what can be compressed is a Hugging Face folder, a model store, a GGUF file or a pack",
         path.string(), name_of(kind));
  return *source;
}

ModelKind detect_model(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::not_found) fail(ErrorKind::missing_input, "{}: does not exist", path.string());
  if (error) fail(ErrorKind::missing_input, "{}: {}", path.string(), error.message());
  if (fs::is_directory(status)) {
    if (fs::exists(path / "work" / "lock") && !fs::exists(path / kManifestName))
      fail(ErrorKind::bad_data, "{}: an unfinished run of adze-compress; run it again to finish it", path.string());
    if (fs::exists(path / "store" / kOuterFileName)) return ModelKind::compressed;
    return ModelKind::checkpoint_folder;
  }
  if (is_pack(path)) return ModelKind::pack;
  if (path.extension() == ".gguf") return ModelKind::gguf;
  if (path.extension() == ".h5") return ModelKind::model_store;
  fail(ErrorKind::bad_data,
       "{}: is no model; a model is a Hugging Face folder, a model store (.h5), an output folder of adze-compress, "
       "a GGUF file or a pack",
       path.string());
}

std::string left_out_remark(const OpenedModel& model) {
  if (model.left_out.empty()) return "";
  return fmt::format("the language model alone is read; left out: {}", fmt::join(model.left_out, ", "));
}

BaseModel base_model(const OpenedModel& model) {
  if (model.kind == ModelKind::compressed)
    fail(ErrorKind::bad_data, "{}: is a {}; as a base it must be a pack, which adze export makes of it",
         model.path.string(), name_of(model.kind));
  model.require_source();
  return {model.path.string(), model.architecture(), model.source};
}

namespace {

/// Stores say by themselves that they are lists; what else is no folder has an architecture.
void check_weights_only(const OpenedModel& model, const OpenModelOptions& options) {
  if (options.weights_only && !model.architecture().is_listed())
    fail(ErrorKind::usage, "--weights-only is for folders, and {} is a {} whose architecture is known",
         model.path.string(), name_of(model.kind));
  if (!options.takes_lists) require_known(model.architecture(), model.path.string());
}

}  // namespace

OpenedModel open_model(const fs::path& path, const OpenModelOptions& options) {
  OpenedModel model;
  model.path = path;
  model.kind = detect_model(path);
  model.name = folder_name(path);
  if (model.kind != ModelKind::checkpoint_folder) refuse_like(options);
  if (options.weights_only && !options.like.empty())
    fail(ErrorKind::usage, "--like takes an architecture for another, --weights-only does without; give one of them");
  row_of(model.kind).open(model, options);
  check_weights_only(model, options);
  load_tokenizer(model);
  return model;
}

std::string model_identity(const OpenedModel& model) {
  Hasher hasher;
  const auto* store = dynamic_cast<const ModelStore*>(&model.require_source());  // knows its tensors' hashes
  for (const StoreFile& file : model.files) hasher.add(file.name).add(file.text);
  for (const TensorInfo& tensor : model.require_source().tensors()) {
    hasher.add(fmt::format("{} {} {}\n", tensor.name, name_of(tensor.dtype), tensor.bytes));
    if (store != nullptr) {
      hasher.add(store->content_hash(tensor));
    } else if (const auto place = model.require_source().place(tensor)) {
      // The content is not read for this: size and time of the files stand for it, as for every build tool.
      hasher.add(fmt::format("{} {}\n", place->offset, fs::last_write_time(place->file).time_since_epoch().count()));
    }
  }
  // Blocks, packed codes and reordered rows have no place that could be named.
  for (const fs::path& part : model.parts)
    hasher.add(fmt::format("{} {}\n", fs::file_size(part), fs::last_write_time(part).time_since_epoch().count()));
  return hasher.hex();
}

}  // namespace adze
