// How the outputs of keys and values are read by the rest of attention, from weights and the second moment of their
// common input: in which norm an error of theirs should be small. (Specification low-rank.md, 20.2.)
//
//   k   an error e of a key changes the score with a query q at a distance d by q^T R_d e, so
//       M = sum over the group's query heads of E_d [R_d^T (E q q^T) R_d], d over the pairs of a causal window: R
//       rotates (RoPE), q before its rotation, tokens and distances independent
//   v   an error e of a value enters the output as W_O,h e: M = sum over the group's query heads of W_O,h^T W_O,h
#pragma once

#include "base/matrix.h"
#include "calibrate/statistics.h"
#include "model/weights.h"

namespace adze {

/// M [out x out], a block per key/value head, up to a factor; empty for linears other than k and v. inputs: of the
/// stage qkv; `window`: tokens over which distances are counted.
MatrixD reading_moment(const Architecture& architecture, LinearSlot slot, const BlockWeights& block,
                       const InputStatistics& inputs, std::size_t window);

}  // namespace adze
