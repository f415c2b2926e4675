// Fewer blocks: some are dropped, or collapsed into the one before them (LaCo, arXiv 2402.11187; ShortGPT, arXiv
// 2403.03853; The Unreasonable Ineffectiveness of the Deeper Layers, arXiv 2403.17887; specification allocation.md,
// section 6). The result is an ordinary model of less depth, its blocks numbered anew.
#pragma once

#include <memory>

#include "transform/transform.h"

namespace adze {

/// Options: count and select (kl, influence, angular, last), or blocks; merge, windows. Throws bad_recipe when no
/// block, or every block, would be left.
std::shared_ptr<const Transform> configure_drop_blocks(MapReader& options, const Architecture& original);

}  // namespace adze
