// Exporters: one runtime format each, one folder and one row of the registry. An exporter sees only what is stored for
// each tensor (its format and, at the end, its bytes), never how it was made.
//
// Life cycle, all of it const and repeatable: cannot_hold() per tensor while a recipe is checked; remark() for what the
// user should know about a tensor that fits; predict_bytes() once every tensor has its format, before any weight
// exists, or own_bytes() for what each of many choices adds to it; write() at the end. write() streams tensor by
// tensor, then reads its own file back and compares every value and every setting with what it was given: an export
// that differs is an error, and leaves no file.
//
// Refuses what a format cannot hold exactly. Nothing is requantized or rounded on the way out.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/progress.h"
#include "checkpoint/folder_files.h"
#include "model/architecture.h"
#include "model/tensors.h"
#include "model/weights.h"

namespace adze {

class Tokenizer;

/// A tensor and what will be stored for it.
struct PlannedTensor {
  TensorSpec spec;
  std::string format;  ///< CompressedTensor::format(): "bf16", "gguf/q4_k", "int4 g128 sym"; of others vector_format()
};

/// The format of what is no matrix: "f32" of norms and biases; the dtype of tensors that are kept as they are.
std::string vector_format(const TensorSpec& spec);

/// What an export says of a runtime's cache of keys and values: nothing, or a scale each for 8-bit floats (E4M3), a
/// block.
enum class CacheScales : std::uint8_t { none, fp8 };
/// The name in recipes, "fp8"; nothing for one that there is not. "none" is not said.
std::optional<CacheScales> cache_scales_from_name(std::string_view name);
/// Why there are no scales, and how there will be: for messages.
std::string no_cache_maxima(std::size_t block);

/// Everything of an export but the weights. References must outlive it.
struct ExportPlan {
  const Architecture& architecture;    ///< tying resolved
  std::vector<PlannedTensor> tensors;  ///< one per entry of expected_tensors(architecture), in its order
  const Tokenizer* tokenizer = nullptr;
  std::span<const StoreFile> files;  ///< read_folder_files of the checkpoint; those that are not there are done without
  std::string name;                  ///< of the model, for people; may be empty
  /// Keys start with "adze." ("adze.recipe", "adze.calibration", "adze.version"); empty values are left out.
  std::vector<std::pair<std::string, std::string>> provenance;
  std::uint64_t split_max_bytes = 0;  ///< of one file, when the format can be split over several; 0: no limit
  CacheScales cache = CacheScales::none;
};

/// What one tensor adds to an export, whatever else is in it.
using OwnBytes = std::function<std::uint64_t(const PlannedTensor&)>;

class Exporter {
 public:
  virtual ~Exporter() = default;

  /// Nothing when the format holds this tensor exactly; else why not, with the tensor's name, its format and the
  /// nearest choice that would do.
  virtual std::optional<std::string> cannot_hold(const Architecture& architecture,
                                                 const PlannedTensor& tensor) const = 0;

  /// What the user should know about a tensor that fits, such as a size that grows; nothing when there is nothing.
  virtual std::optional<std::string> remark(const Architecture& architecture, const PlannedTensor& tensor) const = 0;

  /// True where the experts of a block lie in one tensor, so that the format of each is that of all.
  virtual bool stacks_experts() const { return false; }

  /// True where the format has a place for scales of a cache.
  virtual bool holds_cache_scales() const { return false; }

  /// True where coding makes some values smaller than others: then predict_bytes() is the most that it can be.
  virtual bool size_depends_on_values() const { return false; }

  /// Exact size of what write() will write, all files together. Throws bad_data for all that write() would refuse
  /// before writing: a tensor that cannot be held, a tokenizer that is missing or that the format has no words for.
  virtual std::uint64_t predict_bytes(const ExportPlan& plan) const = 0;

  /// The part of predict_bytes() that is a matrix' own, in any format: its values with their padding and what heads and
  /// manifests say of it. Where stacks_experts(), that of the whole stack that it lies in, all of it in this format.
  /// Not in it is what files share: keys and configurations (which may list matrices by their formats), padding of
  /// heads, more digits of places that lie farther behind, and heads of more files. So differences of own bytes are
  /// those of files to within these, and of a GGUF in one file exactly, but for NVFP4, whose scales make its head
  /// longer. References `plan`, which has the formats of a file that is much like those that are meant. Throws bad_data
  /// for what cannot be held.
  virtual OwnBytes own_bytes(const ExportPlan& plan) const = 0;

  /// The files that write() will make for `path`: itself, or NAME-00001-of-00003.gguf ... when they are split.
  virtual std::vector<std::filesystem::path> files(const ExportPlan& plan, const std::filesystem::path& path) const = 0;

  /// Writes and verifies; files() appear by rename after that, the first one last. `model` must have the formats that
  /// the plan says. Throws as predict_bytes(), and internal when what was written is not what was meant; then nothing
  /// is left.
  virtual void write(const ExportPlan& plan, const ModelWeights& model, const std::filesystem::path& path,
                     Progress& progress) const = 0;
};

struct ExporterInfo {
  std::string_view name;  ///< as in recipes: "gguf"
  std::string_view summary;
  std::unique_ptr<Exporter> (*make)();
  bool holds_lists = false;  ///< models whose architecture is not known, too (model/listing.h)
};

std::span<const ExporterInfo> exporters();
/// nullptr when there is none of that name.
const ExporterInfo* find_exporter(std::string_view name);

/// Why an architecture that is not known cannot be exported so, and how it can; nothing where it can, or is known.
std::optional<std::string> cannot_list(const ExporterInfo& exporter, const Architecture& architecture);

/// The formats of a model whose weights exist already, in the order of expected_tensors. Loads one by one where a
/// model does not know them without.
std::vector<PlannedTensor> planned_tensors(const ModelWeights& model);
/// The table of a plan's tensors.
std::vector<TensorSpec> specs_of(const ExportPlan& plan);

}  // namespace adze
