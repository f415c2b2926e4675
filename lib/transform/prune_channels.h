// Structured pruning: every block loses the same number of FFN channels, or of attention heads, and what remains makes
// up for them by least squares (least_groups.h; specification allocation.md, 7.2 and 7.3). The result is a smaller
// dense model with other sizes in config.json.
//
// FFN channel c: row c of gate and up, column c of down, which is repaired. Query head: its rows of q, its columns of
// o, which is repaired; a key/value group: a key/value head with all query heads that read it. Without data (`inputs:
// none`), H is that of calibrate/surrogate.h.
#pragma once

#include <memory>

#include "transform/transform.h"

namespace adze {

/// Options: keep (percent), align (kept channels are a multiple of it; 32), select (loss: those whose going costs least
/// after the repair; leverage: those of which others say most, MoDeGPT's type I), inputs (calibration or none), damp
/// (0.01).
std::shared_ptr<const Transform> configure_prune_ffn(MapReader& options, const Architecture& original);

/// Options: keep (percent), what (groups: key/value heads with their query heads, or queries: as many query heads of
/// every group), inputs, damp.
std::shared_ptr<const Transform> configure_prune_heads(MapReader& options, const Architecture& original);

}  // namespace adze
