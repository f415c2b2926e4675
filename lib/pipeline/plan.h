// The pre-flight of a run: everything that can be known and refused before the first weight is touched. The recipe's
// names are matched against the registries and its rules against the model's modules; shapes are checked against grids
// and exports; sizes are computed exactly, memory and disk predicted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "evaluate/protocol.h"
#include "export/exporter.h"
#include "pipeline/open_model.h"
#include "pipeline/resolve_scheme.h"
#include "recipe/recipe.h"
#include "transform/transform.h"

namespace adze {

/// What becomes of one weight matrix: a scheme solves it, or it is stored in a dtype.
struct ModulePlan {
  TensorSpec spec;
  std::optional<std::size_t> rule;    ///< of the recipe; nothing: no rule matches, the dtype stays
  std::optional<std::size_t> scheme;  ///< in CompressionPlan::schemes
  std::string format;                 ///< CompressedTensor::format() of the result
  std::uint64_t bytes = 0;            ///< exact
  std::uint64_t original_bytes = 0;   ///< 0 for a head that a transform has untied
  std::string original_format;
  std::uint64_t loaded_bytes = 0;  ///< as solvers are given it: transformed matrices are f32
  BlockSharing sharing = {};       ///< with the same linear of the neighbouring block
};

/// Modules in the order in which they were added, each found by its name. Names are there once and do not change; what
/// becomes of a module may.
class ModuleList {
 public:
  /// Throws internal for a name that is there.
  void push_back(ModulePlan module);
  /// nullptr when there is none of that name.
  const ModulePlan* find(std::string_view name) const;

  std::size_t size() const { return modules_.size(); }
  auto begin() { return modules_.begin(); }
  auto end() { return modules_.end(); }
  auto begin() const { return modules_.begin(); }
  auto end() const { return modules_.end(); }

 private:
  std::vector<ModulePlan> modules_;
  std::map<std::string, std::size_t, std::less<>> places_;  ///< in modules_
};

struct ExportJob {
  const ExporterInfo* info = nullptr;
  std::shared_ptr<const Exporter> exporter;
  std::filesystem::path file;  ///< relative to the output folder
  std::uint64_t bytes = 0;     ///< exact; known once the calibration is (prepare_run)
  std::vector<std::string> remarks;
  std::uint64_t split_max_bytes = 0;  ///< of one file; 0: one file, however large
  CacheScales cache = CacheScales::none;
};

struct CompressionPlan {
  Transforms transforms;
  Architecture original_architecture;
  Architecture architecture;     ///< of the model that transforms make, and that is stored
  std::vector<StoreFile> files;  ///< config.json ... of that model
  std::vector<ResolvedScheme> schemes;
  ModuleList modules;  ///< embedding, linears in order, head unless tied
  std::vector<ExportJob> exports;
  std::optional<Protocol> protocol;  ///< nothing: the recipe does not evaluate
  std::vector<std::string> warnings;
  std::uint64_t stored_bytes = 0;  ///< all tensors, norms included
  std::uint64_t original_bytes = 0;
  std::uint64_t weights = 0;
  std::uint64_t peak_memory = 0;     ///< bytes, predicted
  std::uint64_t temporary_disk = 0;  ///< bytes, hidden states kept for resuming

  /// True when the original model's hidden states walk along: a scheme asks for them, and inputs drift at all.
  bool walks_reference(PropagateMode propagate) const;
  /// nullptr when the module is not a weight matrix of the model.
  const ModulePlan* find(std::string_view module) const { return modules.find(module); }
  /// A scheme that pairs blocks, and is taken; nullptr: there is none.
  const ResolvedScheme* pairing_scheme() const;
  double bits_per_weight() const { return 8.0 * static_cast<double>(stored_bytes) / static_cast<double>(weights); }
};

/// The block that shares with this one where a solver pairs blocks: the second of each two, the first of each two. It
/// may be one beyond the last.
constexpr std::size_t neighbour_of(std::size_t block) { return block ^ 1; }

/// Throws bad_recipe with every problem of the recipe in one message, bad_data when the model cannot be compressed.
CompressionPlan make_plan(const Recipe& recipe, const OpenedModel& model);

/// The plan of one of a compression plan's exports. architecture, files: of the plan, or of the finished store,
/// where a survey has settled what the plan left open; they and `model` are referenced.
ExportPlan export_plan(const CompressionPlan& plan, const ExportJob& job, const Architecture& architecture,
                       std::span<const StoreFile> files, const OpenedModel& model,
                       std::vector<std::pair<std::string, std::string>> provenance);

}  // namespace adze
