#include "transform/rotate_tensor.h"

#include <algorithm>

#include "base/checked.h"
#include "base/error.h"
#include "base/parallel.h"
#include "linalg/convert.h"
#include "model/pool.h"

namespace adze {
namespace {

// Rows (or columns) of a tile whose other side does not turn: long vectors of doubles that stay in a second-level
// cache.
constexpr std::size_t kTileVectors = 16;

/// Where a tile lies in its matrix.
struct Place {
  std::size_t row, col;
  Shape shape;
};

struct TileWork {
  std::vector<float> values;
  std::vector<double> tile;
};

void check_fits(Shape shape, const TensorSides& sides) {
  const bool in_fits = !sides.in || shape.cols % sides.in->size() == 0;
  const bool out_fits = !sides.out || shape.rows % sides.out->size() == 0;
  if (!in_fits || !out_fits || (!sides.gain.empty() && sides.gain.size() != shape.cols))
    fail(ErrorKind::internal, "rotations of {} inputs and {} outputs with {} gains do not fit a {} x {} matrix",
         sides.in ? sides.in->size() : 1, sides.out ? sides.out->size() : 1, sides.gain.size(), shape.rows, shape.cols);
}

void narrow(std::span<const double> from, std::span<float> to) {
  std::ranges::transform(from, to.begin(), [](double value) { return static_cast<float>(value); });
  if (!all_finite(to)) fail(ErrorKind::bad_data, "a rotated value does not fit f32");
}

/// Rotates work.values, the tile at `place`, in double.
void rotate_tile(const Place& place, const TensorSides& sides, TileWork& work) {
  work.tile.assign(work.values.begin(), work.values.end());
  const ViewD tile(work.tile.data(), place.shape);
  for (std::size_t r = 0; r < tile.rows() && !sides.gain.empty(); ++r)
    for (std::size_t c = 0; c < tile.cols(); ++c) tile(r, c) *= static_cast<double>(sides.gain[place.col + c]);
  if (sides.in) sides.in->apply(work.tile);
  if (sides.out) sides.out->apply(work.tile, place.shape.cols);
  narrow(work.tile, work.values);
}

/// Tiles of whole rows, as many as the output side's rotation mixes.
TensorPtr rotate_by_rows(const CompressedTensor& weight, const TensorSides& sides) {
  const Shape shape = weight.shape();
  const std::size_t unit = sides.out ? sides.out->size() : kTileVectors;
  std::vector<std::byte> payload(checked_mul(shape.count(), sizeof(float)));
  Pool<TileWork> pool;
  parallel_for(divide_up(shape.rows, unit), [&](std::size_t t) {
    const std::size_t first = t * unit;
    const Place place{first, 0, {std::min(unit, shape.rows - first), shape.cols}};
    const auto work = pool.borrow();
    work->values.resize(place.shape.count());
    weight.decode_rows(first, place.shape.rows, work->values);
    rotate_tile(place, sides, *work);
    const auto target = std::span(payload).subspan(first * shape.cols * sizeof(float));
    from_float(DType::f32, work->values, target.first(work->values.size() * sizeof(float)));
  });
  return std::make_shared<const DenseTensor>(DType::f32, shape, std::move(payload));
}

void copy_tile(ConstViewF tile, std::vector<float>& values) {
  values.clear();
  for (std::size_t r = 0; r < tile.rows(); ++r) values.insert(values.end(), tile.row(r).begin(), tile.row(r).end());
}

/// Tiles of whole columns, as many as the input side's rotation mixes.
TensorPtr rotate_by_columns(const CompressedTensor& weight, const TensorSides& sides) {
  const Shape shape = weight.shape();
  const std::size_t unit = sides.in ? sides.in->size() : kTileVectors;
  const MatrixF original = weight.decode();
  std::vector<std::byte> payload(checked_mul(shape.count(), sizeof(float)));
  Pool<TileWork> pool;
  parallel_for(divide_up(shape.cols, unit), [&](std::size_t t) {
    const std::size_t first = t * unit;
    const Place place{0, first, {shape.rows, std::min(unit, shape.cols - first)}};
    const auto work = pool.borrow();
    copy_tile(original.view().col_range(first, place.shape.cols), work->values);
    rotate_tile(place, sides, *work);
    const ConstViewF rotated(work->values.data(), place.shape);
    for (std::size_t r = 0; r < shape.rows; ++r) {
      const auto target = std::span(payload).subspan((r * shape.cols + first) * sizeof(float));
      from_float(DType::f32, rotated.row(r), target.first(place.shape.cols * sizeof(float)));
    }
  });
  return std::make_shared<const DenseTensor>(DType::f32, shape, std::move(payload));
}

}  // namespace

TensorPtr rotate_tensor(TensorPtr weight, const TensorSides& sides) {
  check_fits(weight->shape(), sides);
  if (!sides.in && !sides.out && sides.gain.empty()) return weight;
  // A tile holds whole vectors of the longer rotation and just enough of them for the shorter one, so it is small.
  const std::size_t in_length = sides.in ? sides.in->size() : 1;
  const std::size_t out_length = sides.out ? sides.out->size() : 1;
  return in_length >= out_length ? rotate_by_rows(*weight, sides) : rotate_by_columns(*weight, sides);
}

std::vector<float> rotate_bias(std::span<const float> bias, const RandomHadamard& out) {
  std::vector<double> values(bias.begin(), bias.end());
  out.apply(values);
  std::vector<float> rotated(bias.size());
  narrow(values, rotated);
  return rotated;
}

}  // namespace adze
