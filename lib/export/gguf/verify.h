// Reads a written GGUF file back, as any reader would, and compares it with what was meant: settings, types, and every
// value against the model's, rows back in their places.
#pragma once

#include <filesystem>

#include "base/progress.h"
#include "export/exporter.h"
#include "export/gguf/metadata.h"

namespace adze {

/// Throws internal at the first difference, naming the key or the tensor, row and column with both values.
void verify_gguf(const std::filesystem::path& path, const ExportPlan& plan, const GgufContent& content,
                 const ModelWeights& model, Progress& progress);

}  // namespace adze
