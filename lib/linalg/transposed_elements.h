// Matrices of elements of 2 and of 4 bytes the other way round, for what writes packed formats. What reads them back
// has linalg/turned_words.h, which shares no code with this.
#pragma once

#include <cstddef>

#include "base/matrix.h"

namespace adze {

/// Element c of row r of `in` becomes element r of row c of `out`; both are bytes, `width` an element, at any address.
/// in: [rows x cols width], out: [cols x rows width]. Throws internal for other shapes and widths.
void transpose_elements(MatrixView<const std::byte> in, MatrixView<std::byte> out, std::size_t width);

}  // namespace adze
