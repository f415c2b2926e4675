// Dense products. Every BLAS call is single-threaded and its shape must depend on the problem only, never on the number
// of threads: BLAS does not promise that a row's bits are independent of the rows beside it (docs/architecture.md).
#pragma once

#include "base/matrix.h"

namespace adze {

/// C = A B^T, or C += A B^T.  A: [m x k], B: [n x k], C: [m x n], float.
void multiply_nt(ConstViewF a, ConstViewF b, ViewF c, bool accumulate = false);
/// C = A B, or C += A B.  A: [m x k], B: [k x n], C: [m x n], float.
void multiply_nn(ConstViewF a, ConstViewF b, ViewF c, bool accumulate = false);
/// C = A^T B, or C += A^T B.  A: [k x m], B: [k x n], C: [m x n], float.
void multiply_tn(ConstViewF a, ConstViewF b, ViewF c, bool accumulate = false);

/// The same in double.
void multiply_nt(ConstViewD a, ConstViewD b, ViewD c, bool accumulate = false);
void multiply_nn(ConstViewD a, ConstViewD b, ViewD c, bool accumulate = false);
void multiply_tn(ConstViewD a, ConstViewD b, ViewD c, bool accumulate = false);

/// Large products in double on all threads: tiles of rows of C, whose height does not depend on how many threads those
/// are.
MatrixD product_nn(ConstViewD a, ConstViewD b);
MatrixD product_nt(ConstViewD a, ConstViewD b);
MatrixD product_tn(ConstViewD a, ConstViewD b);
/// A A^T, both triangles; half the work of a product.  A: [m x k].
MatrixD gram(ConstViewD a);
/// T^T T of an upper triangular t [n x n] whose lower triangle holds zeros, both triangles: a sixth of the work of a
/// product.
MatrixD gram_of_upper(ConstViewD t);
/// tr(A^T B), the sum of a o b, row after row.  a, b: [m x n].
double inner_product(ConstViewD a, ConstViewD b);

/// Ends the threads that BLAS starts with the program, which else spin for tens of milliseconds in wait of work that
/// never comes. Called by every function here; cheap after the first time.
void use_single_threaded_blas();

}  // namespace adze
