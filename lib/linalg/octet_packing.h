// Codes of 4 bits as words of eight rows, as AWQ's GEMM layout has them. What reads them back is
// linalg/octet_unpacking.h, which shares no code with this.
#pragma once

#include <cstddef>

#include "base/matrix.h"

namespace adze {

/// Word w of column c holds the codes there of rows 8 w to 8 w + 7: nibble i, the one at bit 4 i, that of row
/// 8 w + 0, 2, 4, 6, 1, 3, 5, 7. A row's codes lie two a byte, that of the even column in the low bits.
/// codes: [rows x columns / 2, rounded up], words: [columns x rows / 2] bytes, at any address. Throws internal for
/// other shapes, and for rows that are no multiple of 8.
void pack_octets(MatrixView<const std::byte> codes, MatrixView<std::byte> words);

}  // namespace adze
