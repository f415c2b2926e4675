// One way to open every model that adze reads: a Hugging Face folder, a model store, the output of adze-compress, a
// GGUF file, a pack; a delta pack together with its base. Which it is, the path tells: a folder with store/model.h5,
// another folder, a .gguf file; or, of a pack, its first bytes.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "checkpoint/folder_files.h"
#include "checkpoint/tensor_source.h"
#include "model/pack/base_model.h"
#include "model/weights.h"
#include "text/tokenizer.h"

namespace adze {

enum class ModelKind { checkpoint_folder, model_store, compressed, gguf, pack };
std::string_view name_of(ModelKind kind);

struct OpenModelOptions {
  std::optional<std::filesystem::path> source;  ///< of a model store: where the checkpoint lies now
  bool trust = false;                           ///< of a model store: open it although its checksum does not match
  std::string like;                             ///< class that a folder's config.json shall name; empty: what it does
  std::optional<std::filesystem::path> base;    ///< of a delta: the model that it is the difference from
  bool weights_only = false;  ///< of a folder: its tensors by names and shapes alone, whatever config.json says
  bool takes_lists = false;   ///< the caller does without an architecture (model/listing.h)
};

struct OpenedModel {
  std::filesystem::path path;
  std::string name;  ///< "demo-llama": the folder's name; of a model store the checkpoint's; of a GGUF or pack its own
  ModelKind kind = ModelKind::checkpoint_folder;
  std::shared_ptr<const ModelWeights> weights;
  std::shared_ptr<const TensorSource> source;  ///< of all but compressed models, where it is null
  std::vector<StoreFile> files;                ///< config.json, tokenizer.json ...; of a GGUF made from its metadata
  std::optional<Tokenizer> tokenizer;          ///< nothing when there is no tokenizer.json
  /// Files whose tensors have no place that could be named: of a GGUF all, a pack, a packed checkpoint's safetensors.
  std::vector<std::filesystem::path> parts;
  /// What a pack says of how it was made: keys and values as in ExportPlan.
  std::vector<std::pair<std::string, std::string>> provenance;
  std::vector<std::string> left_out;  ///< parts of a folder beside its language model, for people
  std::string source_problem;         ///< of a GGUF or pack: why it has no source
  std::string tokenizer_problem;      ///< of a GGUF: why it has no tokenizer

  const Architecture& architecture() const { return weights->architecture(); }
  /// The text of a kept file; nullptr when there is none.
  const std::string* file(std::string_view file_name) const;
  /// The tokenizer, or bad_data that says how to get one.
  const Tokenizer& require_tokenizer() const;
  /// The source, or bad_data that names what can be compressed.
  const TensorSource& require_source() const;
};

/// Throws missing_input when there is nothing at `path`, bad_data when it is no model of these kinds or a broken one.
ModelKind detect_model(const std::filesystem::path& path);
/// Throws bad_data, too, for a model whose architecture is not known, unless options.takes_lists.
OpenedModel open_model(const std::filesystem::path& path, const OpenModelOptions& options = {});

/// What is left out of a model of text and images, for a warning; "" where nothing is.
std::string left_out_remark(const OpenedModel& model);

/// A model as the base of a delta. Throws bad_data for one without a source.
BaseModel base_model(const OpenedModel& model);

/// Hash of what decides a model's weights: texts, tensors, and contents, or size and time of the files that hold them.
std::string model_identity(const OpenedModel& model);

}  // namespace adze
