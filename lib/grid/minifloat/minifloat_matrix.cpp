#include "grid/minifloat/minifloat_matrix.h"

#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/parallel.h"

namespace adze {
namespace {

constexpr const char* kMxfp4 = "gguf/mxfp4";

std::shared_ptr<const Grid> grid_of(const MinifloatSpec& spec) {
  if (spec == minifloat_spec_from_name(kMxfp4)) return grid_from_name(kMxfp4);
  try {
    return make_minifloat_grid(spec);
  } catch (const Error& error) {
    fail(ErrorKind::bad_data, "{}", error.message());  // the sizes are a checkpoint's, not a recipe's
  }
}

void check_sizes(const MinifloatMatrix& matrix) {
  const auto [rows, cols] = matrix.shape;
  const std::size_t group = matrix.spec.group_cols(cols);
  if (group == 0 || cols % group != 0 || (matrix.spec.bits == 4 && cols % 2 != 0) ||
      matrix.codes.size() != rows * matrix.code_bytes() ||
      matrix.scales.size() != rows * matrix.groups() * matrix.spec.scale_bytes())
    fail(ErrorKind::bad_data, "codes and scales are not of {} x {} weights in groups of {}", rows, cols, group);
}

void check_scale(const MinifloatSpec& spec, std::span<const std::byte> scale) {
  const auto byte = std::to_integer<unsigned>(scale[0]);
  switch (spec.scale) {
    case MinifloatScale::f32: {
      float value = 0;
      std::memcpy(&value, scale.data(), sizeof value);
      if (!std::isfinite(value) || value < 0) fail(ErrorKind::bad_data, "a scale is {}", value);
      return;
    }
    case MinifloatScale::e8m0:
      if (byte == 255) fail(ErrorKind::bad_data, "a scale is NaN");
      return;
    case MinifloatScale::e4m3:
      if (byte >= 0x7F) fail(ErrorKind::bad_data, "a scale is NaN or negative");
      return;
  }
}

}  // namespace

MinifloatMatrix unpack_minifloats(const QuantizedTensor& tensor) {
  const auto spec = minifloat_spec_of(tensor.grid());
  if (!spec) fail(ErrorKind::bad_data, "{} is no grid of small floats", tensor.format());
  MinifloatMatrix matrix{*spec, tensor.shape(), {}, {}};
  const auto [rows, cols] = matrix.shape;
  const std::size_t row_scales = matrix.groups() * spec->scale_bytes();
  matrix.codes.resize(rows * matrix.code_bytes());
  matrix.scales.resize(rows * row_scales);
  parallel_for(rows, [&](std::size_t r) {
    std::vector<std::int16_t> codes(cols);
    tensor.grid().unpack_row(tensor.row(r), codes, std::span(matrix.scales).subspan(r * row_scales, row_scales));
    std::byte* const out = matrix.codes.data() + r * matrix.code_bytes();
    for (std::size_t c = 0; c < cols; ++c) {
      const auto pattern = static_cast<std::byte>(minifloat_pattern(spec->bits, codes[c]));
      if (spec->bits == 8)
        out[c] = pattern;
      else
        out[c / 2] |= pattern << (4 * (c % 2));
    }
  });
  return matrix;
}

std::shared_ptr<const QuantizedTensor> pack_minifloats(const MinifloatMatrix& matrix) {
  check_sizes(matrix);
  const auto grid = grid_of(matrix.spec);
  const auto [rows, cols] = matrix.shape;
  const std::size_t width = matrix.spec.scale_bytes(), row_scales = matrix.groups() * width;
  const std::size_t row_bytes = static_cast<std::size_t>(grid->row_bytes(cols));
  for (std::size_t at = 0; at < matrix.scales.size(); at += width)
    check_scale(matrix.spec, std::span(matrix.scales).subspan(at, width));
  std::vector<std::byte> payload(rows * row_bytes);
  parallel_for(rows, [&](std::size_t r) {
    std::vector<std::int16_t> codes(cols);
    const std::byte* const in = matrix.codes.data() + r * matrix.code_bytes();
    for (std::size_t c = 0; c < cols; ++c) {
      const auto byte = std::to_integer<unsigned>(matrix.spec.bits == 8 ? in[c] : in[c / 2]);
      const unsigned pattern = matrix.spec.bits == 8 ? byte : byte >> (4 * (c % 2)) & 15;
      codes[c] = static_cast<std::int16_t>(minifloat_index(matrix.spec.bits, static_cast<std::uint8_t>(pattern)));
    }
    grid->pack_row(codes, std::span(matrix.scales).subspan(r * row_scales, row_scales),
                   std::span(payload).subspan(r * row_bytes, row_bytes));
  });
  return std::make_shared<QuantizedTensor>(grid, matrix.shape, std::move(payload));
}

}  // namespace adze
