// Reads a written GGUF file, or the files of a split one, back, as any reader would, and compares it with what was
// meant: settings, types, and every value against the model's, rows back in their places, by hash where the file has
// the model's own codes (export/compare_models.h).
#pragma once

#include <filesystem>

#include "base/progress.h"
#include "export/compare_models.h"
#include "export/exporter.h"
#include "export/gguf/split.h"

namespace adze {

/// paths: one per part. meant: noted while they were written. Throws internal at the first difference, naming the key
/// or the tensor, row and column with both values.
void verify_gguf(std::span<const std::filesystem::path> paths, std::span<const GgufPart> parts, const ExportPlan& plan,
                 const ModelWeights& model, const MeantTensors& meant, Progress& progress);

}  // namespace adze
