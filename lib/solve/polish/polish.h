// Coordinate descent on a finished encoding: every code, and every stored scale, moves to the place where the proxy
// loss is least while all others stay (specification, sections 1.4 and 4). In one coordinate the loss is a parabola, so
// the nearest stored value to its minimum is the best one, and no move makes the loss greater. Pruned weights stay
// zero; on a grid of floats this is Gauss-Seidel for least squares on the mask.
#pragma once

#include "base/matrix.h"
#include "grid/quantized_tensor.h"

namespace adze {

struct PolishOptions {
  int sweeps = 0;     ///< over all columns; 0: leave everything as it is
  bool refit = true;  ///< move stored scales too, after each unit's codes
};

/// Lowers tr(D H D^T), D = weights - values, tile of rows by tile of rows. weights: [out x in]; hessian: [in x in],
/// symmetric, positive diagonal. Stops early where a sweep moves nothing.
void polish(ConstViewF weights, ConstViewF hessian, const PolishOptions& options, Encoding& encoding);

}  // namespace adze
