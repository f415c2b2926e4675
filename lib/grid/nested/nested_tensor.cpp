#include "grid/nested/nested_tensor.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include <fmt/format.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/parallel.h"
#include "grid/bits.h"
#include "grid/integer/integer.h"

namespace adze {
namespace {

constexpr std::string_view kPrefix = "planes ";
constexpr std::string_view kOf = " of ";

/// Code minus the grid's own, which is symmetric about zero where it has no zero point.
int stored_zero(const IntegerGridSpec& spec) { return spec.symmetric ? 1 << (spec.bits - 1) : 0; }

}  // namespace

std::uint64_t NestedFormat::side_bytes(std::size_t cols) const {
  return grid->row_bytes(cols) - packed_bytes(cols, grid->code_bits());
}

std::uint64_t NestedFormat::bytes(Shape shape) const {
  if (shape.cols == 0) fail(ErrorKind::bad_data, "{}: rows without columns", grid->name());
  if (const auto reason = grid->cannot_hold(shape.cols)) fail(ErrorKind::bad_data, "{}", *reason);
  const std::uint64_t plane_row = divide_up(shape.cols, 8);
  return checked_mul(shape.rows, side_bytes(shape.cols) + static_cast<std::uint64_t>(planes) * plane_row);
}

std::optional<NestedFormat> nested_format_of(std::shared_ptr<const Grid> grid, int planes) {
  const IntegerGridSpec* const spec = integer_spec_of(*grid);
  if (spec == nullptr || spec->scope == ScaleScope::tensor) return std::nullopt;
  return NestedFormat{std::move(grid), planes};
}

std::string nested_format(const NestedFormat& parts) {
  return fmt::format("{}{}{}{}", kPrefix, parts.planes, kOf, parts.grid->name());
}

std::optional<NestedFormat> parse_nested_format(const std::string& format) {
  if (!format.starts_with(kPrefix)) return std::nullopt;
  std::string_view rest = std::string_view(format).substr(kPrefix.size());
  int planes = 0;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), planes);
  if (error != std::errc()) fail(ErrorKind::bad_data, "unknown format '{}'", format);
  rest.remove_prefix(static_cast<std::size_t>(end - rest.data()));
  if (!rest.starts_with(kOf)) fail(ErrorKind::bad_data, "unknown format '{}'", format);
  rest.remove_prefix(kOf.size());
  auto parts = nested_format_of(grid_from_name(std::string(rest)), planes);
  if (!parts || planes < 1 || planes > parts->grid->code_bits() || nested_format(*parts) != format)
    fail(ErrorKind::bad_data, "unknown format '{}'", format);
  return parts;
}

NestedTensor::NestedTensor(NestedFormat format, Shape shape, std::vector<std::byte> payload)
    : format_(std::move(format)), shape_(shape), payload_(std::move(payload)) {
  if (payload_.size() != format_.bytes(shape))
    fail(ErrorKind::bad_data, "{} x {} weights in {} take {} bytes, not {}", shape.rows, shape.cols,
         nested_format(format_), format_.bytes(shape), payload_.size());
}

NestedTensor NestedTensor::from_integers(const QuantizedTensor& tensor, int planes) {
  const Shape shape = tensor.shape();
  const auto format = nested_format_of(grid_from_name(tensor.format()), planes);
  if (!format || planes < 1 || planes > format->grid->code_bits())
    fail(ErrorKind::bad_data, "{} has no {} leading bits with scales of their own", tensor.format(), planes);
  const int bits = format->grid->code_bits();
  const std::size_t side = format->side_bytes(shape.cols), plane_row = divide_up(shape.cols, 8);
  std::vector<std::byte> payload(format->bytes(shape));
  parallel_for(shape.rows, [&](std::size_t r) {
    std::ranges::copy(tensor.row(r).first(side), payload.begin() + static_cast<std::ptrdiff_t>(r * side));
    BitReader reader(tensor.row(r).subspan(side), bits);
    std::byte* const first = payload.data() + shape.rows * side + r * plane_row;
    for (std::size_t c = 0; c < shape.cols; ++c) {
      const unsigned code = reader.get();
      for (int p = 0; p < planes; ++p)
        first[static_cast<std::size_t>(p) * shape.rows * plane_row + c / 8] |=
            static_cast<std::byte>((code >> (bits - 1 - p) & 1) << (c % 8));
    }
  });
  return {*format, shape, std::move(payload)};
}

NestedTensor NestedTensor::prefix(int planes) const {
  if (planes < 1 || planes > format_.planes)
    fail(ErrorKind::bad_data, "{} planes of the {} that are stored", planes, format_.planes);
  const NestedFormat format{format_.grid, planes};
  const auto end = payload_.begin() + static_cast<std::ptrdiff_t>(format.bytes(shape_));
  return {format, shape_, std::vector<std::byte>(payload_.begin(), end)};
}

std::vector<std::uint8_t> NestedTensor::leading_codes(std::size_t row) const {
  std::vector<std::uint8_t> codes(shape_.cols);
  const std::size_t planes_start = shape_.rows * format_.side_bytes(shape_.cols);
  for (int p = 0; p < format_.planes; ++p) {
    const std::size_t at = planes_start + (static_cast<std::size_t>(p) * shape_.rows + row) * plane_row_bytes();
    const int bit = format_.grid->code_bits() - 1 - p;
    for (std::size_t c = 0; c < shape_.cols; ++c)
      codes[c] = static_cast<std::uint8_t>(codes[c] | (std::to_integer<unsigned>(payload_[at + c / 8]) >> (c % 8) & 1u)
                                                          << bit);
  }
  return codes;
}

QuantizedTensor NestedTensor::integers() const {
  const Grid& grid = *format_.grid;
  if (format_.planes != grid.code_bits())
    fail(ErrorKind::bad_data, "{} planes are not all of {}", format_.planes, grid.name());
  const std::size_t side = format_.side_bytes(shape_.cols), row_bytes = grid.row_bytes(shape_.cols);
  std::vector<std::byte> payload(grid.bytes(shape_));
  parallel_for(shape_.rows, [&](std::size_t r) {
    const auto row = std::span(payload).subspan(r * row_bytes, row_bytes);
    std::ranges::copy(std::span(payload_).subspan(r * side, side), row.begin());
    BitWriter writer(row.subspan(side), grid.code_bits());
    for (const std::uint8_t code : leading_codes(r)) writer.put(code);
  });
  return {format_.grid, shape_, std::move(payload)};
}

void NestedTensor::decode_rows(std::size_t first, std::size_t count, std::span<float> out) const {
  const Grid& grid = *format_.grid;
  const std::size_t cols = shape_.cols, side = format_.side_bytes(cols), group_cols = grid.step_cols(cols);
  const auto origin = static_cast<float>(stored_zero(*integer_spec_of(grid)));
  std::vector<std::byte> row(grid.row_bytes(cols)), unit_sides(grid.units(cols) * grid.side_bytes());
  std::vector<std::int16_t> unused(cols);
  for (std::size_t r = 0; r < count; ++r) {
    std::ranges::copy(std::span(payload_).subspan((first + r) * side, side), row.begin());
    grid.unpack_row(row, unused, unit_sides);
    const std::vector<std::uint8_t> codes = leading_codes(first + r);
    for (std::size_t g = 0; g < cols / group_cols; ++g) {
      StepGroup group;
      grid.read_side(std::span(unit_sides).subspan(g * grid.side_bytes(), grid.side_bytes()), {&group, 1});
      for (std::size_t c = g * group_cols; c < (g + 1) * group_cols; ++c)
        out[r * cols + c] =
            group.step * (nested_level(codes[c], format_.planes, grid.code_bits()) - origin) + group.offset;
    }
  }
}

}  // namespace adze
