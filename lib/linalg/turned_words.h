// Matrices of 32-bit words the other way round: packed formats keep codes by input, rows of ours by output.
#pragma once

#include <cstddef>

#include "base/matrix.h"

namespace adze {

/// Word c of row r of `in` becomes word r of row c of `out`; both are bytes, four a word, at any address.
/// in: [rows x 4 cols], out: [cols x 4 rows]. Throws internal for other shapes.
void turn_words(MatrixView<const std::byte> in, MatrixView<std::byte> out);

}  // namespace adze
