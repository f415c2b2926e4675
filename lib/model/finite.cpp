#include "model/finite.h"

#include <algorithm>
#include <string>
#include <vector>

#include "base/error.h"
#include "grid/factors/product_tensor.h"
#include "grid/factors/sum_tensor.h"
#include "grid/factors/train_tensor.h"
#include "grid/quantized_tensor.h"
#include "linalg/convert.h"

namespace adze {
namespace {

/// Formats whose decode_rows() decodes a factor whatever the number of rows.
bool decodes_factors(const std::string& format) {
  return parse_sum_format(format) || parse_product_format(format) || parse_train_format(format);
}

}  // namespace

void require_finite(const CompressedTensor& tensor) {
  constexpr std::size_t kTileRows = 64, kMostTileFloats = std::size_t{16} << 20;  // 64 MiB
  const auto [rows, cols] = tensor.shape();
  const std::size_t most_rows = std::max<std::size_t>(1, kMostTileFloats / std::max<std::size_t>(1, cols));
  const std::size_t tile_rows = decodes_factors(tensor.format()) ? most_rows : std::min(kTileRows, most_rows);
  const auto* const quantized = dynamic_cast<const QuantizedTensor*>(&tensor);
  std::vector<float> values;
  for (std::size_t first = 0; first < rows; first += tile_rows) {
    if (quantized && quantized->steps_bound_values(first, std::min(tile_rows, rows - first))) continue;
    values.resize(std::min(tile_rows, rows - first) * cols);
    tensor.decode_rows(first, values.size() / cols, values);
    if (!all_finite(values)) fail(ErrorKind::bad_data, "a value in rows from {} on is not finite", first);
  }
}

}  // namespace adze
