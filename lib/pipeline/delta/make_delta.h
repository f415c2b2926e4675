// adze delta: a fine-tuned model stored as its difference from a base, in a pack that names the base by the hashes of
// its tensors (model/pack/base_model.h).
//
// Tensors that are equal in both are stored as nothing. Vectors that differ are stored as they are, and so are
// embedding and head unless they are asked for as deltas; of the linears of blocks D = tuned - base is stored by a
// method (solve/delta/method.h), whose losses are weighed by statistics of the fine-tuned model's inputs, or of
// nothing.
//
// Refused: models of different sizes or vocabularies, bases that are no source of tensors, matrices that the method
// cannot make. Both models are read twice, a block at a time: to find out what is equal, and to store it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/progress.h"
#include "calibrate/statistics_folder.h"
#include "pipeline/open_model.h"
#include "solve/delta/method.h"

namespace adze {

struct DeltaOptions {
  bool tables = false;  ///< embedding and head as deltas, too
};

/// What was checked: what --dry-run shows. Refers to the models and the method.
struct PreparedDelta {
  const OpenedModel* base_model = nullptr;
  const OpenedModel* tuned = nullptr;
  const DeltaMethod* method = nullptr;
  BaseModel base;
  std::optional<StatisticsFolder> statistics;  ///< nothing: inputs are weighed equally
  PackManifest manifest;                       ///< everything but the bytes
};

/// Reads both models, writes nothing. statistics: a folder of adze calibrate, of either model. Throws bad_data, naming
/// what differs or what cannot be stored.
PreparedDelta prepare_delta(const OpenedModel& base, const OpenedModel& tuned, const DeltaMethod& method,
                            const std::optional<std::filesystem::path>& statistics, const DeltaOptions& options,
                            Progress& progress);

/// What became of a tensor.
struct DeltaRecord {
  std::string module;
  std::string format;  ///< kSameFormat where it is the base's
  std::uint64_t weights = 0;
  std::uint64_t bytes = 0;
  bool is_delta = false;         ///< else stored as it is, or not at all
  SolveReport report;            ///< of a delta: J, and J relative to tr(D H D^T)
  double relative_loss = 0;      ///< J relative to tr(W H W^T) of the fine-tuned matrix
  double relative_variance = 0;  ///< of dropped entries: the J to be expected, likewise
};

/// Writes the pack and reads it back. Warns of dropped entries whose variance is no small edit. Throws as the solvers,
/// and internal when what was written is not what was meant; then nothing is left.
std::vector<DeltaRecord> write_delta(const PreparedDelta& prepared, const std::filesystem::path& path,
                                     Progress& progress);

}  // namespace adze
