// AWQ (Lin et al. 2023, arXiv 2306.00978; specification, section 11.1): columns that large inputs meet are scaled up
// before rounding, by s_j = (mean |x_j|)^ratio, so that they are rounded more finely relative to the others of their
// group. The ratio is searched for each input: that of least sum of tr(D H D^T), D the error of rounding to nearest on
// the grid that the recipe gives the linear, after un-scaling. Clipping is left to the scale search of the solver.
#pragma once

#include <memory>

#include "transform/transform.h"

namespace adze {

/// Options: inputs (qkv, gate_up, o, down; all unless given), ratio (0 to 1; searched unless given).
std::shared_ptr<const Transform> configure_awq(MapReader& options, const Architecture& original);

/// s_j = (size_j / mean size)^ratio between 1e-4 and 1e4, divided by the geometric mean of the largest and the
/// smallest. sizes: mean |x_j|, not negative.
std::vector<float> awq_scales(std::span<const double> sizes, double ratio);

}  // namespace adze
