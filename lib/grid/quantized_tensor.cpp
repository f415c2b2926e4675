#include "grid/quantized_tensor.h"

#include <algorithm>
#include <cassert>

#include "base/error.h"
#include "base/parallel.h"
#include "linalg/rounding.h"

namespace adze {
namespace {

std::size_t tensor_side_bytes(const Grid& grid) { return grid.one_side_per_tensor() ? grid.side_bytes() : 0; }

/// Nearest codes of one step group.
void round_group(std::span<const float> x, const StepGroup& group, std::span<const float> levels,
                 std::span<std::int16_t> codes) {
  if (levels.empty()) return round_to_step(x, group.step, group.offset, group.lo, group.hi, codes);
  round_to_levels(x, group.step, group.offset, levels, codes);
}

float value_of(const StepGroup& group, std::span<const float> levels, std::int16_t code) {
  const float level = levels.empty() ? static_cast<float>(code) : levels[static_cast<std::size_t>(code)];
  return group.step * level + group.offset;
}

}  // namespace

Encoding::Encoding(std::shared_ptr<const Grid> grid, Shape shape)
    : grid_(std::move(grid)),
      shape_(shape),
      unit_cols_(grid_->unit_cols(shape.cols)),
      step_cols_(grid_->step_cols(shape.cols)),
      units_(grid_->units(shape.cols)),
      side_bytes_(grid_->side_bytes()),
      groups_per_row_(shape.cols / step_cols_),
      codes_(shape.count()),
      side_((grid_->one_side_per_tensor() ? 1 : shape.rows * units_) * grid_->side_bytes()),
      groups_(shape.rows * groups_per_row_) {
  if (const auto reason = grid_->cannot_hold(shape.cols)) fail(ErrorKind::bad_data, "{}", *reason);
}

std::size_t Encoding::side_start(std::size_t row, std::size_t unit) const {
  return (grid_->one_side_per_tensor() ? 0 : row * units_ + unit) * side_bytes_;
}

std::span<std::byte> Encoding::side(std::size_t row, std::size_t unit) {
  return std::span(side_).subspan(side_start(row, unit), side_bytes_);
}

std::span<const std::byte> Encoding::side_of(std::size_t row, std::size_t unit) const {
  return std::span(side_).subspan(side_start(row, unit), side_bytes_);
}

void Encoding::require_own_side() const {
  if (grid_->one_side_per_tensor()) fail(ErrorKind::internal, "{}: side data are fitted once", grid_->name());
}

void Encoding::set_side(std::size_t row, std::size_t unit, std::span<const std::byte> bytes) {
  require_own_side();
  assert(bytes.size() == side_bytes_);
  std::ranges::copy(bytes, side(row, unit).begin());
  refresh_groups(row, unit);
}

float Encoding::parameter(std::size_t row, std::size_t unit, std::size_t index) const {
  return grid_->parameter(side_of(row, unit), index);
}

void Encoding::set_parameter(std::size_t row, std::size_t unit, std::size_t index, float value) {
  require_own_side();
  grid_->set_parameter(side(row, unit), index, value);
  refresh_groups(row, unit);
}

void Encoding::refresh_groups(std::size_t row, std::size_t unit) {
  const std::size_t per_unit = unit_cols_ / step_cols_;
  grid_->read_side(side(row, unit), std::span(groups_).subspan(row * groups_per_row_ + unit * per_unit, per_unit));
}

void Encoding::fit_unit(std::size_t row, std::size_t unit, std::span<const float> weights,
                        std::span<const float> importance, ScaleRule rule) {
  require_own_side();
  grid_->fit(weights, importance, rule, side(row, unit));
  refresh_groups(row, unit);
}

void Encoding::fit_all(ConstViewF weights, std::span<const float> importance, ScaleRule rule) {
  if (grid_->one_side_per_tensor()) {
    std::vector<float> all;
    std::vector<float> all_importance;
    all.reserve(weights.shape().count());
    all_importance.reserve(weights.shape().count());
    for (std::size_t r = 0; r < weights.rows(); ++r) {
      all.insert(all.end(), weights.row(r).begin(), weights.row(r).end());
      all_importance.insert(all_importance.end(), importance.begin(), importance.end());
    }
    grid_->fit(all, all_importance, rule, side_);
    for (std::size_t r = 0; r < weights.rows(); ++r) refresh_groups(r, 0);
    return;
  }
  parallel_for(weights.rows(), [&](std::size_t r) {
    for (std::size_t u = 0; u < units_; ++u)
      fit_unit(r, u, weights.row(r).subspan(u * unit_cols_, unit_cols_), importance.subspan(u * unit_cols_, unit_cols_),
               rule);
  });
}

float Encoding::value(std::size_t row, std::size_t col) const {
  return value_of(group(row, col), grid_->levels(), codes_[row * shape_.cols + col]);
}

void Encoding::round_row(std::size_t row, std::span<const float> weights) {
  assert(weights.size() == shape_.cols);
  for (std::size_t c = 0; c < shape_.cols; c += step_cols_)
    round_group(weights.subspan(c, step_cols_), group(row, c), grid_->levels(), codes(row).subspan(c, step_cols_));
}

std::shared_ptr<const CompressedTensor> Encoding::finish() const {
  const std::size_t head = tensor_side_bytes(*grid_);
  const std::size_t row_bytes = grid_->row_bytes(shape_.cols);
  const std::size_t row_side = units_ * grid_->side_bytes();
  std::vector<std::byte> payload(grid_->bytes(shape_));
  std::copy_n(side_.begin(), head, payload.begin());
  parallel_for(shape_.rows, [&](std::size_t r) {
    grid_->pack_row(std::span(codes_).subspan(r * shape_.cols, shape_.cols),
                    std::span(side_).subspan(head > 0 ? 0 : r * row_side, row_side),
                    std::span(payload).subspan(head + r * row_bytes, row_bytes));
  });
  return std::make_shared<QuantizedTensor>(grid_, shape_, std::move(payload));
}

QuantizedTensor::QuantizedTensor(std::shared_ptr<const Grid> grid, Shape shape, std::vector<std::byte> payload)
    : grid_(std::move(grid)), shape_(shape), payload_(std::move(payload)) {
  if (const auto reason = grid_->cannot_hold(shape.cols)) fail(ErrorKind::bad_data, "{}", *reason);
  if (payload_.size() != grid_->bytes(shape))
    fail(ErrorKind::bad_data, "{} x {} weights in {} take {} bytes, not {}", shape.rows, shape.cols, grid_->name(),
         grid_->bytes(shape), payload_.size());
}

std::span<const std::byte> QuantizedTensor::row(std::size_t r) const {
  const std::size_t row_bytes = grid_->row_bytes(shape_.cols);
  return std::span(payload_).subspan(tensor_side_bytes(*grid_) + r * row_bytes, row_bytes);
}

void QuantizedTensor::unpack(std::size_t r, std::span<std::int16_t> codes, std::span<StepGroup> groups) const {
  const std::size_t side_size = grid_->side_bytes();
  const std::size_t units = grid_->units(shape_.cols);
  const std::size_t per_unit = grid_->groups_per_unit(shape_.cols);
  std::vector<std::byte> side(units * side_size);
  std::copy_n(payload_.begin(), tensor_side_bytes(*grid_), side.begin());
  grid_->unpack_row(row(r), codes, side);
  for (std::size_t u = 0; u < units; ++u)
    grid_->read_side(std::span(side).subspan(u * side_size, side_size), groups.subspan(u * per_unit, per_unit));
}

void QuantizedTensor::decode_rows(std::size_t first, std::size_t count, std::span<float> out) const {
  assert(first + count <= shape_.rows && out.size() == count * shape_.cols);
  const std::size_t step_cols = grid_->step_cols(shape_.cols);
  const std::span<const float> levels = grid_->levels();
  std::vector<std::int16_t> codes(shape_.cols);
  std::vector<StepGroup> groups(shape_.cols / step_cols);
  for (std::size_t r = 0; r < count; ++r) {
    unpack(first + r, codes, groups);
    float* row_out = out.data() + r * shape_.cols;
    for (std::size_t c = 0; c < shape_.cols; ++c) row_out[c] = value_of(groups[c / step_cols], levels, codes[c]);
  }
}

std::shared_ptr<const CompressedTensor> tensor_from_payload(const std::string& format, Shape shape,
                                                            std::vector<std::byte> payload) {
  if (const auto dtype = dtype_from_name(format))
    return std::make_shared<DenseTensor>(*dtype, shape, std::move(payload));
  return std::make_shared<QuantizedTensor>(grid_from_name(format), shape, std::move(payload));
}

std::uint64_t format_bytes(const std::string& format, Shape shape) {
  if (const auto dtype = dtype_from_name(format)) return shape.count() * bytes_of(*dtype);
  return grid_from_name(format)->bytes(shape);
}

}  // namespace adze
