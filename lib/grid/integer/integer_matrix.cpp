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

void check_sizes(const IntegerMatrix& matrix) {
  const std::size_t sides = matrix.shape.rows * matrix.groups();
  if (matrix.shape.cols % matrix.group_cols() != 0 || matrix.codes.size() != matrix.shape.rows * matrix.code_bytes() ||
      matrix.zeros.size() != sides || matrix.scales.size() != sides * bytes_of(matrix.spec.scale_dtype))
    fail(ErrorKind::bad_data, "codes, scales and zero points are not of {} x {} weights in groups of {}",
         matrix.shape.rows, matrix.shape.cols, matrix.group_cols());
  const int most = (1 << matrix.spec.bits) - 1, middle = middle_of(matrix.spec);
  if (std::ranges::any_of(matrix.zeros, [&](std::uint8_t zero) { return zero > most; }))
    fail(ErrorKind::bad_data, "a zero point is above {}", most);
  if (matrix.spec.symmetric && std::ranges::any_of(matrix.zeros, [&](std::uint8_t zero) { return zero != middle; }))
    fail(ErrorKind::bad_data, "a symmetric matrix with a zero point other than {}", middle);
  const std::size_t padding = 8 * matrix.code_bytes() - matrix.shape.cols * static_cast<std::size_t>(matrix.spec.bits);
  for (std::size_t r = 0; padding > 0 && r < matrix.shape.rows; ++r)
    if (std::to_integer<unsigned>(matrix.code_row(r).back()) >> (8 - padding) != 0)
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

enum class Codes { all, none };

IntegerMatrix unpack(const QuantizedTensor& tensor, Codes codes) {
  const IntegerGridSpec* const spec = integer_spec_of(tensor.grid());
  if (spec == nullptr || spec->scope == ScaleScope::tensor)
    fail(ErrorKind::bad_data, "{} has no scales of groups or channels of integers", tensor.format());
  IntegerMatrix matrix{*spec, tensor.shape(), {}, {}, {}};
  const RowLayout layout(matrix);
  const std::size_t groups = matrix.groups(), rows = matrix.shape.rows;
  if (codes == Codes::all) matrix.codes.resize(rows * layout.codes);
  matrix.scales.resize(rows * layout.scales);
  matrix.zeros.assign(rows * groups, static_cast<std::uint8_t>(middle_of(*spec)));
  for_rows(rows, [&](std::size_t r) {
    const std::span<const std::byte> row = tensor.row(r);
    std::memcpy(matrix.scales.data() + r * layout.scales, row.data(), layout.scales);
    if (codes == Codes::all)
      std::memcpy(matrix.codes.data() + r * layout.codes, row.data() + layout.scales + layout.zeros, layout.codes);
    if (spec->symmetric) return;
    BitReader zeros(row.subspan(layout.scales, layout.zeros), spec->bits);
    for (std::size_t g = 0; g < groups; ++g) matrix.zeros[r * groups + g] = static_cast<std::uint8_t>(zeros.get());
  });
  return matrix;
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

IntegerMatrix unpack_integers(const QuantizedTensor& tensor) { return unpack(tensor, Codes::all); }

IntegerMatrix unpack_sides(const QuantizedTensor& tensor) { return unpack(tensor, Codes::none); }

std::shared_ptr<const QuantizedTensor> pack_integers(const IntegerMatrix& matrix) {
  check_sizes(matrix);
  const RowLayout layout(matrix);
  const std::size_t groups = matrix.groups(), rows = matrix.shape.rows;
  std::vector<std::byte> payload(rows * layout.bytes());
  for_rows(rows, [&](std::size_t r) {
    const std::span<std::byte> row = std::span(payload).subspan(r * layout.bytes(), layout.bytes());
    std::memcpy(row.data(), matrix.scales.data() + r * layout.scales, layout.scales);
    std::memcpy(row.data() + layout.scales + layout.zeros, matrix.code_row(r).data(), layout.codes);
    if (matrix.spec.symmetric) return;
    BitWriter zeros(row.subspan(layout.scales, layout.zeros), matrix.spec.bits);
    for (std::size_t g = 0; g < groups; ++g) zeros.put(matrix.zeros[r * groups + g]);
  });
  return std::make_shared<QuantizedTensor>(make_integer_grid(matrix.spec), matrix.shape, std::move(payload));
}

std::vector<float> scales_of(const IntegerMatrix& matrix) {
  std::vector<float> scales(matrix.shape.rows * matrix.groups());
  to_float(matrix.spec.scale_dtype, matrix.scales, scales);
  return scales;
}

}  // namespace adze
