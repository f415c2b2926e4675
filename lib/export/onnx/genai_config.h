// genai_config.json: what onnxruntime-genai must know of a model to generate with it.
#pragma once

#include <string>

#include "export/exporter.h"

namespace adze {

inline constexpr const char* kGenaiConfigName = "genai_config.json";

/// shares_cache: the graph can write new keys and values into the buffers of the past.
std::string genai_config(const ExportPlan& plan, bool shares_cache);

}  // namespace adze
