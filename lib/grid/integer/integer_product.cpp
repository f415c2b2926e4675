#include "grid/integer/integer_product.h"

#include "grid/integer/integer.h"

namespace adze {

std::optional<FourBitRows> four_bit_rows(const QuantizedTensor& tensor) {
  const IntegerGridSpec* const spec = integer_spec_of(tensor.grid());
  const std::size_t group = tensor.grid().unit_cols(tensor.shape().cols);
  if (spec == nullptr || spec->bits != 4 || spec->scope == ScaleScope::tensor || group == 0 || group % 32 != 0)
    return std::nullopt;
  return FourBitRows{tensor.payload(), tensor.shape(), group, spec->scale_dtype, spec->symmetric};
}

}  // namespace adze
