// The way back from linalg/octet_packing.h, which shares no code with it: what verifies is not what wrote.
#pragma once

#include <cstddef>

#include "base/matrix.h"

namespace adze {

/// Row 8 w + k of `codes` gets the nibbles at bit 0, 16, 4, 20, 8, 24, 12, 28 (k = 0, 1...) of word w of each input,
/// two a byte, that of the even input in the low bits. Above the last one of an odd number is 0.
/// words: [inputs x outputs / 2], codes: [outputs x inputs / 2, rounded up] bytes, at any address. Throws internal for
/// other shapes, and for outputs that are no multiple of 8.
void unpack_octets(MatrixView<const std::byte> words, MatrixView<std::byte> codes);

}  // namespace adze
