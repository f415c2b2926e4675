// Narrower attention heads, the same size everywhere (MoDeGPT, arXiv 2408.09632, its types II and III; specification
// low-rank.md, 14): a smaller dense model with another head_dim, and a smaller KV cache.
//
// Queries and keys: whole RoPE pairs go, those through which least of the scores passes. E |q_p|^2 |k_p|^2, for q and k
// of independent tokens, does not change under rotation and adds up over query heads, key/value groups and blocks, in
// the unit of scores. A runtime has one table of frequencies for the whole model, so the same pairs stay everywhere;
// their frequencies become long RoPE's divisors. Queries take up the factor between the roots of the two head sizes.
//
// Values and output: with G = sum over a group's query heads of the second moment of what attention gives, L L^T = G,
// and O = sum of W_O,h^T W_O,h, the best rank-r stand-in for a value in the norm of the output is L Z Z^T L^-1, Z the
// leading eigenvectors of L^T O L. Values become E v, E = Z^T L^-1, exactly so, with their bias; W_O is solved for by
// least squares over all heads at once, W_O H E^T (E H E^T)^-1.
#pragma once

#include <memory>

#include "transform/transform.h"

namespace adze {

/// Options: keep (percent of head_dim), align (head_dim is a multiple of it, and even; 8), damp (0.01).
std::shared_ptr<const Transform> configure_narrow_heads(MapReader& options, const Architecture& original);

}  // namespace adze
