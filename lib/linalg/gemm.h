// Dense products. Every call is single-threaded and its shape must depend on the problem only, never on the number of
// threads: BLAS does not promise that a row's bits are independent of the rows beside it (docs/architecture.md).
#pragma once

#include "base/matrix.h"

namespace adze {

/// C = A B^T, or C += A B^T.  A: [m x k], B: [n x k], C: [m x n], float.
void multiply_nt(ConstViewF a, ConstViewF b, ViewF c, bool accumulate = false);
/// C = A B, or C += A B.  A: [m x k], B: [k x n], C: [m x n], float.
void multiply_nn(ConstViewF a, ConstViewF b, ViewF c, bool accumulate = false);
/// C = A^T B, or C += A^T B.  A: [k x m], B: [k x n], C: [m x n], float.
void multiply_tn(ConstViewF a, ConstViewF b, ViewF c, bool accumulate = false);

/// Stops BLAS from starting threads of its own. Called by every function here; cheap after the first time.
void use_single_threaded_blas();

}  // namespace adze
