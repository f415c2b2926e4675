// The model that a recipe's transforms make, before anything is solved. Without transforms it is the original; where
// none needs inputs, it is transformed anew whenever a block is read; else one pass over the calibration set makes it
// block by block, each measured on the inputs that the transformed blocks before it give, and it lies in the work
// folder as a compressed store of floats. A pass that was killed goes on after the blocks that it has written.
#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "base/progress.h"
#include "calibrate/calibration_set.h"
#include "calibrate/hidden_states.h"
#include "checkpoint/folder_files.h"
#include "pipeline/plan.h"

namespace adze {

/// True when the transformed model is made by a pass and lies in the work folder.
bool needs_transform_pass(const CompressionPlan& plan);

/// `folder`: where the transformed model goes when a pass makes it. Throws bad_data, naming the matrix.
std::shared_ptr<const ModelWeights> transformed_model(const CompressionPlan& plan, const OpenedModel& model,
                                                      const TokenWindows& windows, const StatesLayout& layout,
                                                      const std::filesystem::path& folder, Progress& progress);

/// config.json and the others, with the sizes and the tying of the transformed model.
std::vector<StoreFile> transformed_files(const std::vector<StoreFile>& files, const Architecture& original,
                                         const Architecture& transformed);

}  // namespace adze
