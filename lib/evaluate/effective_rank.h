// How many directions a window's hidden states use: a compressed model that has lost structure uses fewer (Diff-eRank).
#pragma once

#include <span>

#include "base/matrix.h"

namespace adze {

/// exp of the entropy of the shares; 0 log 0 = 0. 2.586409 for 3, 1, 1, 0. Values of at least 0; of none or of zeros
/// alone it is 0.
double entropy_rank(std::span<const double> values);

/// erank of states [tokens x width]: rows less their mean, each divided by its norm; the entropy rank of the
/// eigenvalues of their covariance (Wei et al. 2024). Through the smaller Gram matrix, in double. Rows that equal the
/// mean add nothing. Throws bad_data when a value is not finite.
double effective_rank(ConstViewF states);

}  // namespace adze
