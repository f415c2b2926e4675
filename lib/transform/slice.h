// SliceGPT's idea (arXiv 2401.15024) with one rotation for the whole model: the residual stream is turned to the
// principal directions of what its norms see, and the weakest are cut off. Norms commute with rotations once their
// gains have moved into the matrices behind them; so a turned model is the same model, and a cut one is a smaller
// ordinary model of less hidden size, without the adapters between blocks that a rotation of its own for each block
// needs.
//
// Directions are chosen for all norms together: P [kept x hidden] are the leading eigenvectors of the sum over norms
// and tokens of xhat xhat^T, xhat = x / rms(x). A norm of the cut stream divides by the root mean square of fewer
// values, which a constant gain makes up for: sqrt(captured hidden / kept), captured the part of the energy that P
// keeps.
#pragma once

#include <memory>

#include "transform/transform.h"

namespace adze {

/// Options: keep, align. Throws bad_recipe when nothing, or everything, would be left.
std::shared_ptr<const Transform> configure_slice(MapReader& options, const Architecture& original);

}  // namespace adze
