#include "grid/grid.h"

#include <vector>

#include "base/checked.h"
#include "base/error.h"

namespace adze {
namespace {

[[noreturn]] void refuse(const Grid& grid) {
  fail(ErrorKind::internal, "{}: side data have no parameters that can be moved", grid.name());
}

}  // namespace

std::uint64_t Grid::bytes(Shape shape) const {
  if (shape.cols == 0) fail(ErrorKind::bad_data, "{}: rows without columns", name());
  return checked_add(one_side_per_tensor() ? side_bytes() : 0, checked_mul(shape.rows, row_bytes(shape.cols)));
}

void Grid::unpack_side(std::span<const std::byte> in, std::size_t cols, std::span<std::byte> side) const {
  std::vector<std::int16_t> ignored(cols);
  unpack_row(in, ignored, side);
}

std::span<const Grid::ScaleParameter> Grid::parameters(std::size_t) const { return {}; }

float Grid::parameter(std::span<const std::byte>, std::size_t) const { refuse(*this); }

void Grid::set_parameter(std::span<std::byte>, std::size_t, float) const { refuse(*this); }

void Grid::slopes(std::span<const std::byte>, std::size_t, std::span<Slope>) const { refuse(*this); }

}  // namespace adze
