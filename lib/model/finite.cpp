#include "model/finite.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "base/checked.h"
#include "base/error.h"
#include "base/parallel.h"
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
  const bool is_costly = decodes_factors(tensor.format());
  const std::size_t tile_rows = is_costly ? most_rows : std::min(kTileRows, most_rows);
  const auto* const quantized = dynamic_cast<const QuantizedTensor*>(&tensor);
  const auto rows_of = [&](std::size_t tile) { return std::min(tile_rows, rows - tile * tile_rows); };
  const auto decode_tile = [&](std::size_t tile) {
    std::vector<float> values(rows_of(tile) * cols);
    tensor.decode_rows(tile * tile_rows, rows_of(tile), values);
    return values;
  };
  std::vector<char> finite(divide_up(rows, tile_rows));
  const auto check = [&](std::size_t tile) {
    const bool is_bounded = quantized && quantized->steps_bound_values(tile * tile_rows, rows_of(tile));
    finite[tile] = is_bounded || all_finite(decode_tile(tile));
  };
  if (is_costly)  // large tiles, one at a time in memory
    for (std::size_t tile = 0; tile < finite.size(); ++tile) check(tile);
  else
    parallel_for(finite.size(), check);

  const auto bad = std::ranges::find(finite, char{0});
  if (bad == finite.end()) return;
  const auto tile = static_cast<std::size_t>(bad - finite.begin());
  const std::vector<float> values = decode_tile(tile);
  const auto at = std::ranges::find_if_not(values, [](float value) { return std::isfinite(value); });
  fail(ErrorKind::bad_data, "non-finite value {} at element {}", *at,
       tile * tile_rows * cols + static_cast<std::size_t>(at - values.begin()));
}

}  // namespace adze
