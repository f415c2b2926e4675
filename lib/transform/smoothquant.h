// SmoothQuant (Xiao et al. 2022, arXiv 2211.10438; specification, section 11.2): s_j = max|x_j|^alpha / max|w_j|^(1 -
// alpha) moves the range of inputs into the weights, for runtimes that round inputs too. Only inputs that a norm makes:
// its gain takes 1 / s.
#pragma once

#include <memory>

#include "transform/transform.h"

namespace adze {

/// Options: alpha (0 to 1; 0.5), inputs (qkv, gate_up).
std::shared_ptr<const Transform> configure_smoothquant(MapReader& options, const Architecture& original);

}  // namespace adze
