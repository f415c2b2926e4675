// Products that take outer products off a symmetric matrix, in double: all of it at once, or off one row of it. Every
// call is single-threaded (linalg/gemm.h says why).
#pragma once

#include <span>

#include "base/matrix.h"

namespace adze {

/// C -= V^T V, lower triangle of C only.  V: [k x n], C: [n x n].
void subtract_outer_products(ConstViewD v, ViewD c);

/// y -= a V, which is one row of V^T V when a is a column of V.  a: k entries, V: [k x n], y: n entries.
void subtract_weighted_rows(std::span<const double> a, ConstViewD v, std::span<double> y);

}  // namespace adze
