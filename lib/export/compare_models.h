// The check at the end of an export: what was written, read by code that shares none with what wrote it, has every
// value of the model.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>

#include "base/progress.h"
#include "export/exporter.h"

namespace adze {

/// std::ranges::equal compares bytes one by one.
bool same_bytes(std::span<const std::byte> a, std::span<const std::byte> b);

/// `meant`: a matrix of the model as the format says it. Throws internal, naming `origin` and tensor, for one that
/// differs.
void compare_models(const ExportPlan& plan, const ModelWeights& written, const ModelWeights& model,
                    const std::function<TensorPtr(const TensorPtr&)>& meant, const std::string& origin,
                    Progress& progress);

}  // namespace adze
