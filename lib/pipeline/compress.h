// The main job: a recipe and a checkpoint become a compressed store, exports, a judgement and a manifest. Blocks are
// solved one after the other, each measured with the inputs that the compressed blocks before it give; every block is
// committed before the next begins, and a run that is killed anywhere goes on from its last commit to the same bytes.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/progress.h"
#include "calibrate/calibration_set.h"
#include "evaluate/evaluate.h"
#include "pipeline/ledger.h"
#include "pipeline/plan.h"
#include "pipeline/resources.h"
#include "pipeline/work_folder.h"

namespace adze {

struct CalibrationStudy;

struct CompressOptions {
  std::filesystem::path out;
  IfExists if_exists = IfExists::resume;
  bool force = false;                       ///< resume although the run was begun on another kind of CPU
  const CalibrationStudy* study = nullptr;  ///< for the report's page (calibration_study.h); changes nothing else
};

/// A run that has passed every check: what --dry-run shows.
struct PreparedRun {
  const Recipe* recipe = nullptr;
  const OpenedModel* model = nullptr;
  CompressionPlan plan;
  TokenWindows windows;
  std::vector<std::int32_t> evaluation_ids;  ///< empty: the recipe does not evaluate
  std::vector<std::pair<std::string, std::string>> provenance;
  RunIngredients ingredients;
  Resources memory;  ///< how the run keeps within its memory, and what it will take
};

/// A part of a run and how long it took.
struct PhaseTime {
  std::string name;
  double seconds = 0;
};

struct CompressResult {
  std::vector<TensorRecord> tensors;  ///< in the order they were solved
  std::vector<LedgerFile> files;      ///< everything in the output folder but report and manifest
  std::optional<EvaluationResult> evaluation;
  std::size_t resumed_steps = 0;  ///< steps that an earlier process had committed
  double seconds = 0;             ///< of this process
  std::vector<PhaseTime> phases;  ///< of this process, in order
  std::uint64_t peak_memory = 0;  ///< of this process, bytes
};

/// Reads all text, checks everything; touches no weight and writes nothing. `recipe` and `model` must outlive the
/// result. Throws out_of_memory when the run cannot keep within `memory_limit` bytes.
PreparedRun prepare_run(const Recipe& recipe, const OpenedModel& model,
                        std::optional<std::uint64_t> memory_limit = std::nullopt);

/// The same with windows that are there already, in place of the recipe's calibration.
PreparedRun prepare_run(const Recipe& recipe, const OpenedModel& model, TokenWindows windows,
                        std::optional<std::uint64_t> memory_limit = std::nullopt);

CompressResult compress(const PreparedRun& run, const CompressOptions& options, Progress& progress);

}  // namespace adze
