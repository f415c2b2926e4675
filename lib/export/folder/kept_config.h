// The config.json that an exported folder begins with.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "export/exporter.h"

namespace adze {

/// The checkpoint's, keys in its order, without what it said of how its own weights were packed, or of ONNX files that
/// lay beside it. Throws bad_data when there is none, but for a list of tensors, of which nobody needs to say more.
nlohmann::ordered_json kept_config(const ExportPlan& plan);

}  // namespace adze
