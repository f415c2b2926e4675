// Products with matrices on 4-bit integer grids, from their stored bytes.
#pragma once

#include <optional>

#include "grid/quantized_tensor.h"
#include "linalg/quantized_product.h"

namespace adze {

/// The tensor's rows for multiply_four_bit, which must not outlive it; nothing for other grids than int4 with groups or
/// rows of a multiple of 32 columns.
std::optional<FourBitRows> four_bit_rows(const QuantizedTensor& tensor);

}  // namespace adze
