#include "grid/integer/integer_matrix.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "base/parallel.h"
#include "linalg/convert.h"

namespace adze {
namespace {

int zero_of(const IntegerGridSpec& spec) { return 1 << (spec.bits - 1); }

void check_sizes(const IntegerMatrix& matrix) {
  const std::size_t sides = matrix.shape.rows * matrix.groups();
  if (matrix.group_cols() == 0 || matrix.shape.cols % matrix.group_cols() != 0 ||
      matrix.codes.size() != matrix.shape.count() || matrix.zeros.size() != sides ||
      matrix.scales.size() != sides * bytes_of(matrix.spec.scale_dtype))
    fail(ErrorKind::bad_data, "codes, scales and zero points are not of {} x {} weights in groups of {}",
         matrix.shape.rows, matrix.shape.cols, matrix.group_cols());
  const int most = (1 << matrix.spec.bits) - 1;
  const auto too_large = [&](std::uint8_t value) { return value > most; };
  if (std::ranges::any_of(matrix.codes, too_large) || std::ranges::any_of(matrix.zeros, too_large))
    fail(ErrorKind::bad_data, "a code or zero point is above {}", most);
  if (matrix.spec.symmetric &&
      std::ranges::any_of(matrix.zeros, [&](std::uint8_t z) { return z != zero_of(matrix.spec); }))
    fail(ErrorKind::bad_data, "a symmetric matrix with a zero point other than {}", zero_of(matrix.spec));
}

}  // namespace

IntegerMatrix unpack_integers(const QuantizedTensor& tensor) {
  const IntegerGridSpec* const spec = integer_spec_of(tensor.grid());
  if (spec == nullptr || spec->scope == ScaleScope::tensor)
    fail(ErrorKind::bad_data, "{} has no scales of groups or channels of integers", tensor.format());
  IntegerMatrix matrix{*spec, tensor.shape(), {}, {}, {}};
  const std::size_t cols = matrix.shape.cols, groups = matrix.groups(), width = bytes_of(spec->scale_dtype);
  const std::size_t side_bytes = tensor.grid().side_bytes();
  matrix.codes.resize(matrix.shape.count());
  matrix.scales.resize(matrix.shape.rows * groups * width);
  matrix.zeros.assign(matrix.shape.rows * groups, static_cast<std::uint8_t>(zero_of(*spec)));
  const int shift = spec->symmetric ? zero_of(*spec) : 0;
  parallel_for(matrix.shape.rows, [&](std::size_t r) {
    std::vector<std::int16_t> codes(cols);
    std::vector<std::byte> side(groups * side_bytes);
    tensor.grid().unpack_row(tensor.row(r), codes, side);
    for (std::size_t c = 0; c < cols; ++c) matrix.codes[r * cols + c] = static_cast<std::uint8_t>(codes[c] + shift);
    for (std::size_t g = 0; g < groups; ++g) {
      std::memcpy(matrix.scales.data() + (r * groups + g) * width, side.data() + g * side_bytes, width);
      if (!spec->symmetric) matrix.zeros[r * groups + g] = std::to_integer<std::uint8_t>(side[g * side_bytes + width]);
    }
  });
  return matrix;
}

std::shared_ptr<const QuantizedTensor> pack_integers(const IntegerMatrix& matrix) {
  check_sizes(matrix);
  const auto grid = make_integer_grid(matrix.spec);
  const std::size_t cols = matrix.shape.cols, groups = matrix.groups(), width = bytes_of(matrix.spec.scale_dtype);
  const std::size_t side_bytes = grid->side_bytes(), row_bytes = grid->row_bytes(cols);
  const int shift = matrix.spec.symmetric ? zero_of(matrix.spec) : 0;
  std::vector<std::byte> payload(matrix.shape.rows * row_bytes);
  parallel_for(matrix.shape.rows, [&](std::size_t r) {
    std::vector<std::int16_t> codes(cols);
    std::vector<std::byte> side(groups * side_bytes);
    for (std::size_t c = 0; c < cols; ++c) codes[c] = static_cast<std::int16_t>(matrix.codes[r * cols + c] - shift);
    for (std::size_t g = 0; g < groups; ++g) {
      std::memcpy(side.data() + g * side_bytes, matrix.scales.data() + (r * groups + g) * width, width);
      if (!matrix.spec.symmetric) side[g * side_bytes + width] = static_cast<std::byte>(matrix.zeros[r * groups + g]);
    }
    grid->pack_row(codes, side, std::span(payload).subspan(r * row_bytes, row_bytes));
  });
  return std::make_shared<QuantizedTensor>(grid, matrix.shape, std::move(payload));
}

std::vector<float> scales_of(const IntegerMatrix& matrix) {
  std::vector<float> scales(matrix.shape.rows * matrix.groups());
  to_float(matrix.spec.scale_dtype, matrix.scales, scales);
  return scales;
}

}  // namespace adze
