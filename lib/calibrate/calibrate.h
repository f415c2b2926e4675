// Runs a model with its own weights over token windows and writes the statistics of every layer's input, block by block
// (statistics_store.h). Memory: the hidden states of all windows, one block's weights, the H of its inputs or one of
// them.
//
// A part's file is synced and hashed beside the measurement of the next part. A run that was stopped goes on: blocks
// whose files are there, intact and of this run are not measured again, only run so that the next one's input exists.
// The bytes are the same however often it was stopped, for any number of threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/progress.h"
#include "calibrate/calibration_set.h"
#include "calibrate/expert_tokens.h"
#include "calibrate/hidden_states.h"
#include "calibrate/statistics_folder.h"
#include "model/weights.h"

namespace adze {

/// Throws usage when windows of `tokens` are longer than the model's context.
void check_window_length(const Architecture& architecture, std::size_t tokens);

struct CalibrateOptions {
  std::filesystem::path out;
  bool overwrite = false;
  std::size_t batch_windows = 0;  ///< held with their inputs; 0: as many as run well. Changes no bit of the result
  bool together = true;           ///< all inputs of a block measured in one pass: faster, with all its H in memory
  ExpertInputs experts = ExpertInputs::routed;  ///< of mixtures
  bool states_on_disk = false;  ///< hidden states in a file of `out` that goes with the run, instead of memory
  /// Blocks whose inputs are measured, as is the head's; others are only run, and the folder stays without them. Empty:
  /// all.
  std::vector<std::size_t> blocks = {};
};

struct CalibrateResult {
  std::size_t measured = 0;  ///< parts: blocks and the head
  std::size_t kept = 0;      ///< parts that were asked for and an earlier run had measured
};

/// Throws as check_window_length and StatisticsOutput do; bad_data when activations are not finite.
CalibrateResult calibrate(const ModelWeights& model, const std::string& name, const TokenWindows& windows,
                          const CalibrateOptions& options, Progress& progress);

/// What a run will take, without running it.
struct CalibratePrediction {
  std::uint64_t disk = 0;    ///< bytes of the folder's datasets
  std::uint64_t memory = 0;  ///< bytes at the peak: program, hidden states, a block of 16-bit weights, a batch, its H
};
/// together: CalibrateOptions.
CalibratePrediction predict_calibration(const Architecture& architecture, const StatesLayout& layout,
                                        bool together = true);

}  // namespace adze
