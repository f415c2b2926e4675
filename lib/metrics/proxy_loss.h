// The objective that every solver minimises, computed in one place:
//   J(What) = tr((W - What) H (W - What)^T), the squared error of the layer's output when H = X X^T.
#pragma once

#include <vector>

#include "base/matrix.h"

namespace adze {

/// J in double. weights, approximation: [out x in]; h: [in x in] symmetric, not damped.
double proxy_loss(ConstViewF weights, ConstViewF approximation, ConstViewD h);

/// What each row adds to it: (w - what) H (w - what)^T; h empty: the identity.
std::vector<double> row_losses(ConstViewF weights, ConstViewF approximation, ConstViewD h);

/// tr(W H W^T): the loss of storing nothing, by which J is made relative.
double output_energy(ConstViewF weights, ConstViewD h);

/// H + damp * mean(diag H) * I; ones where all of H is zero.
MatrixD with_damping(ConstViewD h, double damp);

}  // namespace adze
