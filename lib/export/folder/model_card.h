// The README.md of an exported folder.
#pragma once

#include <string>
#include <string_view>

#include "export/exporter.h"

namespace adze {

/// The front matter of the checkpoint's card (its licence), then what was made of it and how.
std::string model_card(const ExportPlan& plan, std::string_view format);

}  // namespace adze
