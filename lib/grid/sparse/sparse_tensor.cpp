#include "grid/sparse/sparse_tensor.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/parallel.h"
#include "grid/bits.h"
#include "grid/quantized_tensor.h"
#include "grid/sparse/mask_bits.h"

namespace adze {
namespace {

constexpr std::string_view kSeparator = ", ";

/// Units without a kept weight are known from the pattern alone where blocks hold whole units, and in pruned rows.
bool leaves_out_units(const Grid& grid, const SparsityPattern& pattern, std::size_t cols) {
  return pattern.kind() == PatternKind::rows ||
         (pattern.kind() == PatternKind::blocks && pattern.block_cols() % grid.unit_cols(cols) == 0);
}

std::uint64_t stored_units(const Grid& grid, const SparsityPattern& pattern, Shape shape) {
  if (grid.one_side_per_tensor()) return 1;
  const std::uint64_t weights =
      leaves_out_units(grid, pattern, shape.cols) ? shape.count() - pattern.zeros(shape) : shape.count();
  return shape.cols == 0 ? 0 : weights / grid.unit_cols(shape.cols);
}

/// What each stored part of a tensor takes.
struct Parts {
  std::uint64_t mask = 0;
  std::uint64_t side = 0;
  std::uint64_t codes = 0;

  std::uint64_t total() const { return checked_add(checked_add(mask, side), codes); }
};

Parts parts_of(const Grid& grid, const SparsityPattern& pattern, Shape shape) {
  if (const auto reason = grid.cannot_hold(shape.cols)) fail(ErrorKind::bad_data, "{}", *reason);
  if (const auto reason = pattern.cannot_hold(shape.cols)) fail(ErrorKind::bad_data, "{}", *reason);
  if (!grid.holds_zero()) fail(ErrorKind::bad_data, "{} has no zero, which pruned weights need", grid.name());
  const std::uint64_t kept = checked_mul(shape.rows, shape.cols) - pattern.zeros(shape);
  const std::uint64_t bits = checked_mul(kept, static_cast<std::uint64_t>(grid.code_bits()));
  return {mask_bytes(pattern, shape), checked_mul(stored_units(grid, pattern, shape), grid.side_bytes()),
          divide_up(bits, std::uint64_t{8})};
}

/// The least code, which is stored as zero.
int least_code(const Grid& grid, std::size_t cols, std::span<const std::byte> side) {
  std::vector<StepGroup> groups(grid.groups_per_unit(cols));
  grid.read_side(side.first(grid.side_bytes()), groups);
  return static_cast<int>(groups.front().lo);
}

bool stores_unit(const Grid& grid, const SparsityPattern& pattern, const Mask& mask, std::size_t row,
                 std::size_t unit) {
  const std::size_t cols = mask.shape().cols;
  return !leaves_out_units(grid, pattern, cols) || mask.kept(row, unit * grid.unit_cols(cols));
}

/// The code whose value is exactly zero.
std::int16_t zero_code(const Grid& grid, const StepGroup& group) {
  const float zero = 0;
  std::int16_t code = 0;
  round_values(grid, group, std::span(&zero, 1), std::span(&code, 1));
  return code;
}

}  // namespace

SparseTensor::SparseTensor(std::shared_ptr<const Grid> grid, const SparsityPattern& pattern, Shape shape,
                           std::vector<std::byte> payload)
    : grid_(std::move(grid)), pattern_(pattern), payload_(std::move(payload)) {
  const Parts parts = parts_of(*grid_, pattern_, shape);
  if (payload_.size() != parts.total())
    fail(ErrorKind::bad_data, "{} x {} weights in {} take {} bytes, not {}", shape.rows, shape.cols, format(),
         parts.total(), payload_.size());
  mask_ = read_mask(std::span(payload_).first(parts.mask), pattern_, shape);
  std::size_t kept = 0;
  std::size_t units = 0;
  for (std::size_t r = 0; r < shape.rows; ++r) {
    kept_before_.push_back(kept);
    units_before_.push_back(units);
    kept += mask_.kept_in_row(r);
    if (grid_->one_side_per_tensor()) continue;
    for (std::size_t u = 0; u < grid_->units(shape.cols); ++u)
      units += stores_unit(*grid_, pattern_, mask_, r, u) ? 1 : 0;
  }
}

std::string SparseTensor::format() const { return sparse_format(*grid_, pattern_); }

void SparseTensor::unpack(std::size_t row, std::span<std::int16_t> codes, std::span<StepGroup> groups,
                          std::span<std::byte> side) const {
  const Shape shape = mask_.shape();
  const Parts parts = parts_of(*grid_, pattern_, shape);
  const std::span<const std::byte> payload(payload_);
  const std::span<const std::byte> sides = payload.subspan(parts.mask, parts.side);
  const std::size_t side_size = grid_->side_bytes();
  const std::size_t per_unit = grid_->groups_per_unit(shape.cols);
  std::ranges::fill(side, std::byte{0});
  std::size_t next = units_before_[row];
  for (std::size_t u = 0; u < grid_->units(shape.cols); ++u) {
    const std::span<std::byte> unit = side.subspan(u * side_size, side_size);
    if (grid_->one_side_per_tensor()) {
      std::ranges::copy(sides.first(side_size), unit.begin());
    } else if (stores_unit(*grid_, pattern_, mask_, row, u)) {
      std::ranges::copy(sides.subspan(next++ * side_size, side_size), unit.begin());
    }
    grid_->read_side(unit, groups.subspan(u * per_unit, per_unit));
  }
  BitReader reader(payload.subspan(parts.mask + parts.side), grid_->code_bits(), kept_before_[row]);
  const std::size_t step_cols = grid_->step_cols(shape.cols);
  const bool bits_of_floats = grid_->float_values().has_value();
  for (std::size_t c = 0; c < shape.cols; ++c) {
    if (!mask_.kept(row, c)) continue;
    const StepGroup& group = groups[c / step_cols];
    const int code = static_cast<int>(reader.get()) + static_cast<int>(group.lo);
    // Bits that no code of the grid has (a fourth trit, say) become its greatest code: never an index out of range.
    codes[c] = static_cast<std::int16_t>(bits_of_floats ? code : std::min(code, static_cast<int>(group.hi)));
  }
}

void SparseTensor::decode_rows(std::size_t first, std::size_t count, std::span<float> out) const {
  const std::size_t cols = mask_.shape().cols;
  assert(first + count <= mask_.shape().rows && out.size() == count * cols);
  const std::size_t step_cols = grid_->step_cols(cols);
  std::vector<std::int16_t> codes(cols);
  std::vector<StepGroup> groups(cols / step_cols);
  std::vector<std::byte> side(grid_->units(cols) * grid_->side_bytes());
  for (std::size_t r = 0; r < count; ++r) {
    unpack(first + r, codes, groups, side);
    const std::span<float> row = out.subspan(r * cols, cols);
    decode_row(*grid_, groups, codes, row);
    for (std::size_t c = 0; c < cols; ++c)
      if (!mask_.kept(first + r, c)) row[c] = 0;
  }
}

std::shared_ptr<const CompressedTensor> SparseTensor::dense() const {
  const Shape shape = mask_.shape();
  const std::size_t head = grid_->one_side_per_tensor() ? grid_->side_bytes() : 0;
  const std::size_t row_bytes = grid_->row_bytes(shape.cols);
  std::vector<std::byte> payload(grid_->bytes(shape));
  const Parts parts = parts_of(*grid_, pattern_, shape);
  std::copy_n(payload_.begin() + static_cast<std::ptrdiff_t>(parts.mask), head, payload.begin());
  parallel_for(shape.rows, [&](std::size_t r) {
    const std::size_t step_cols = grid_->step_cols(shape.cols);
    std::vector<std::int16_t> codes(shape.cols);
    std::vector<StepGroup> groups(shape.cols / step_cols);
    std::vector<std::byte> side(grid_->units(shape.cols) * grid_->side_bytes());
    unpack(r, codes, groups, side);
    for (std::size_t c = 0; c < shape.cols; ++c)
      if (!mask_.kept(r, c)) codes[c] = zero_code(*grid_, groups[c / step_cols]);
    grid_->pack_row(codes, side, std::span(payload).subspan(head + r * row_bytes, row_bytes));
  });
  if (const auto dtype = grid_->float_values()) return std::make_shared<DenseTensor>(*dtype, shape, std::move(payload));
  return std::make_shared<QuantizedTensor>(grid_, shape, std::move(payload));
}

std::string sparse_format(const Grid& grid, const SparsityPattern& pattern) {
  return fmt::format("{}{}{}", grid.name(), kSeparator, pattern.text());
}

std::uint64_t sparse_bytes(const Grid& grid, const SparsityPattern& pattern, Shape shape) {
  if (shape.cols == 0) fail(ErrorKind::bad_data, "{}: rows without columns", grid.name());
  return parts_of(grid, pattern, shape).total();
}

std::optional<SparseFormat> parse_sparse_format(const std::string& format) {
  const std::size_t at = format.find(kSeparator);
  if (at == std::string::npos) return std::nullopt;
  try {
    const SparsityPattern pattern = SparsityPattern::parse(std::string_view(format).substr(at + kSeparator.size()));
    SparseFormat parsed{value_grid_from_name(format.substr(0, at)), pattern};
    if (sparse_format(*parsed.grid, pattern) == format) return parsed;
  } catch (const Error& error) {
    fail(ErrorKind::bad_data, "unknown format '{}': {}", format, error.message());
  }
  fail(ErrorKind::bad_data, "unknown format '{}'", format);
}

std::shared_ptr<const CompressedTensor> pack_sparse(std::shared_ptr<const Grid> grid, const SparsityPattern& pattern,
                                                    const Mask& mask, std::span<const std::int16_t> codes,
                                                    std::span<const std::byte> side) {
  const Shape shape = mask.shape();
  if (const auto problem = pattern_problem(mask, pattern))
    fail(ErrorKind::internal, "a mask is not {}: {}", pattern.text(), *problem);
  const Parts parts = parts_of(*grid, pattern, shape);
  std::vector<std::byte> payload(parts.total());
  const std::span<std::byte> out(payload);
  write_mask(mask, pattern, out.first(parts.mask));
  const std::size_t side_size = grid->side_bytes();
  std::span<std::byte> sides = out.subspan(parts.mask, parts.side);
  if (grid->one_side_per_tensor()) {
    std::ranges::copy(side.first(side_size), sides.begin());
  } else {
    for (std::size_t r = 0; r < shape.rows; ++r)
      for (std::size_t u = 0; u < grid->units(shape.cols); ++u) {
        if (!stores_unit(*grid, pattern, mask, r, u)) continue;
        std::ranges::copy(side.subspan((r * grid->units(shape.cols) + u) * side_size, side_size), sides.begin());
        sides = sides.subspan(side_size);
      }
  }
  BitWriter writer(out.subspan(parts.mask + parts.side), grid->code_bits());
  const unsigned code_mask = (1u << grid->code_bits()) - 1;
  const int least = shape.count() == 0 ? 0 : least_code(*grid, shape.cols, side);
  for (std::size_t r = 0; r < shape.rows; ++r)
    for (std::size_t c = 0; c < shape.cols; ++c)
      if (mask.kept(r, c)) writer.put(static_cast<unsigned>(codes[r * shape.cols + c] - least) & code_mask);
  return std::make_shared<SparseTensor>(std::move(grid), pattern, shape, std::move(payload));
}

}  // namespace adze
