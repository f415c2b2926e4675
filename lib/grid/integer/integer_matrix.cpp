#include "grid/integer/integer_matrix.h"

#include <algorithm>
#include <cstring>

#include "base/checked.h"
#include "base/error.h"
#include "base/parallel.h"
#include "linalg/convert.h"

namespace adze {
namespace {

int middle_of(const IntegerGridSpec& spec) { return 1 << (spec.bits - 1); }

[[noreturn]] void fail_sizes(const IntegerMatrix& matrix) {
  fail(ErrorKind::bad_data, "codes, scales and zero points are not of {} x {} weights in groups of {}",
       matrix.shape.rows, matrix.shape.cols, matrix.group_cols());
}

void check_sides(const IntegerMatrix& matrix) {
  const std::size_t sides = matrix.shape.rows * matrix.groups();
  if (matrix.shape.cols % matrix.group_cols() != 0 || matrix.zeros.size() != sides ||
      matrix.scales.size() != sides * bytes_of(matrix.spec.scale_dtype))
    fail_sizes(matrix);
  const int most = (1 << matrix.spec.bits) - 1, middle = middle_of(matrix.spec);
  if (std::ranges::any_of(matrix.zeros, [&](std::uint8_t zero) { return zero > most; }))
    fail(ErrorKind::bad_data, "a zero point is above {}", most);
  if (matrix.spec.symmetric && std::ranges::any_of(matrix.zeros, [&](std::uint8_t zero) { return zero != middle; }))
    fail(ErrorKind::bad_data, "a symmetric matrix with a zero point other than {}", middle);
}

/// codes: rows of `cols` codes.
void check_padding(CodeRows codes, std::size_t cols, int bits) {
  const std::size_t padding = 8 * codes.cols() - cols * static_cast<std::size_t>(bits);
  for (std::size_t r = 0; padding > 0 && r < codes.rows(); ++r)
    if (std::to_integer<unsigned>(codes.row(r).back()) >> (8 - padding) != 0)
      fail(ErrorKind::bad_data, "row {}: bits after the last code are not zero", r);
}

/// Where a stored row of an integer grid has what (grid/integer/integer.h): scales, zero points, codes.
struct RowLayout {
  explicit RowLayout(const IntegerMatrix& matrix)
      : scales(matrix.groups() * bytes_of(matrix.spec.scale_dtype)),
        zeros(matrix.spec.symmetric ? 0 : static_cast<std::size_t>(packed_bytes(matrix.groups(), matrix.spec.bits))),
        codes(matrix.code_bytes()) {}

  std::size_t scales, zeros, codes;  ///< bytes

  std::size_t bytes() const { return scales + zeros + codes; }
};

/// body(row) on all threads, many rows a task: of one row there is less to do than to begin with it.
template <typename Body>
void for_rows(std::size_t rows, const Body& body) {
  constexpr std::size_t kTileRows = 64;
  parallel_for(divide_up(rows, kTileRows), [&](std::size_t tile) {
    for (std::size_t r = tile * kTileRows; r < std::min(rows, (tile + 1) * kTileRows); ++r) body(r);
  });
}

/// Grid and sizes of a matrix, and nothing in it.
IntegerMatrix empty_of(const QuantizedTensor& tensor) {
  const IntegerGridSpec* const spec = integer_spec_of(tensor.grid());
  if (spec == nullptr || spec->scope == ScaleScope::tensor)
    fail(ErrorKind::bad_data, "{} has no scales of groups or channels of integers", tensor.format());
  return {*spec, tensor.shape(), {}, {}, {}};
}

}  // namespace

std::vector<std::uint8_t> IntegerMatrix::unpacked_row(std::size_t row) const {
  BitReader reader(code_row(row), spec.bits);
  std::vector<std::uint8_t> unpacked(shape.cols);
  for (std::uint8_t& code : unpacked) code = static_cast<std::uint8_t>(reader.get());
  return unpacked;
}

void IntegerMatrix::pack_row(std::size_t row, std::span<const std::uint8_t> unpacked) {
  const std::span<std::byte> stream(codes.data() + row * code_bytes(), code_bytes());
  BitWriter writer(stream, spec.bits);
  for (const std::uint8_t code : unpacked) writer.put(code);
}

IntegerMatrix unpack_integers(const QuantizedTensor& tensor) {
  IntegerMatrix matrix = unpack_sides(tensor);
  const CodeRows codes = stored_codes(tensor);
  matrix.codes.resize(codes.rows() * codes.cols());
  for_rows(codes.rows(), [&](std::size_t r) {
    std::memcpy(matrix.codes.data() + r * codes.cols(), codes.row(r).data(), codes.cols());
  });
  return matrix;
}

IntegerMatrix unpack_sides(const QuantizedTensor& tensor) {
  IntegerMatrix matrix = empty_of(tensor);
  const RowLayout layout(matrix);
  const std::size_t groups = matrix.groups(), rows = matrix.shape.rows;
  matrix.scales.resize(rows * layout.scales);
  matrix.zeros.assign(rows * groups, static_cast<std::uint8_t>(middle_of(matrix.spec)));
  for_rows(rows, [&](std::size_t r) {
    const std::span<const std::byte> row = tensor.row(r);
    std::memcpy(matrix.scales.data() + r * layout.scales, row.data(), layout.scales);
    if (matrix.spec.symmetric) return;
    unpack_values(row.subspan(layout.scales, layout.zeros), matrix.spec.bits,
                  std::span(matrix.zeros).subspan(r * groups, groups));
  });
  return matrix;
}

CodeRows stored_codes(const QuantizedTensor& tensor) {
  const IntegerMatrix matrix = empty_of(tensor);
  const RowLayout layout(matrix);
  return {tensor.payload().data() + layout.scales + layout.zeros, {matrix.shape.rows, layout.codes}, layout.bytes()};
}

std::shared_ptr<const QuantizedTensor> pack_integers(const IntegerMatrix& matrix) {
  if (matrix.codes.size() != matrix.shape.rows * matrix.code_bytes()) fail_sizes(matrix);
  return pack_integers(matrix, [&](MatrixView<std::byte> rows) {
    for_rows(rows.rows(),
             [&](std::size_t r) { std::memcpy(rows.row(r).data(), matrix.code_row(r).data(), rows.cols()); });
  });
}

std::shared_ptr<const QuantizedTensor> pack_integers(const IntegerMatrix& sides, const FillCodes& fill) {
  check_sides(sides);
  const RowLayout layout(sides);
  const std::size_t groups = sides.groups(), rows = sides.shape.rows;
  ByteArray payload(rows * layout.bytes());
  for_rows(rows, [&](std::size_t r) {
    const std::span<std::byte> row(payload.data() + r * layout.bytes(), layout.bytes());
    std::memcpy(row.data(), sides.scales.data() + r * layout.scales, layout.scales);
    if (sides.spec.symmetric) return;
    BitWriter zeros(row.subspan(layout.scales, layout.zeros), sides.spec.bits);
    for (std::size_t g = 0; g < groups; ++g) zeros.put(sides.zeros[r * groups + g]);
  });
  const MatrixView<std::byte> codes(payload.data() + layout.scales + layout.zeros, {rows, layout.codes},
                                    layout.bytes());
  fill(codes);
  check_padding(codes, sides.shape.cols, sides.spec.bits);
  return std::make_shared<QuantizedTensor>(make_integer_grid(sides.spec), sides.shape, std::move(payload));
}

std::vector<float> scales_of(const IntegerMatrix& matrix) {
  std::vector<float> scales(matrix.shape.rows * matrix.groups());
  to_float(matrix.spec.scale_dtype, matrix.scales, scales);
  return scales;
}

}  // namespace adze
