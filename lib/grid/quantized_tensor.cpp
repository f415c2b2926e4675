#include "grid/quantized_tensor.h"

#include <algorithm>
#include <cassert>
#include <cmath>

#include "base/error.h"
#include "base/parallel.h"
#include "grid/sparse/sparse_tensor.h"
#include "linalg/convert.h"
#include "linalg/rounding.h"

namespace adze {
namespace {

std::size_t tensor_side_bytes(const Grid& grid) { return grid.one_side_per_tensor() ? grid.side_bytes() : 0; }

}  // namespace

void round_values(const Grid& grid, const StepGroup& group, std::span<const float> x, std::span<std::int16_t> codes) {
  if (const auto dtype = grid.float_values()) return from_float(*dtype, x, std::as_writable_bytes(codes));
  if (grid.levels().empty()) return round_to_step(x, group.step, group.offset, group.lo, group.hi, codes);
  round_to_levels(x, group.step, group.offset, grid.levels(), codes);
}

float value_of(const Grid& grid, const StepGroup& group, std::int16_t code) {
  if (const auto dtype = grid.float_values()) {
    float value = 0;
    to_float(*dtype, std::as_bytes(std::span(&code, 1)), std::span(&value, 1));
    return value;
  }
  const std::span<const float> levels = grid.levels();
  const float level = levels.empty() ? static_cast<float>(code) : levels[static_cast<std::size_t>(code)];
  return group.step * level + group.offset;
}

void decode_row(const Grid& grid, std::span<const StepGroup> groups, std::span<const std::int16_t> codes,
                std::span<float> out) {
  if (const auto dtype = grid.float_values()) return to_float(*dtype, std::as_bytes(codes), out);
  const std::span<const float> levels = grid.levels();
  const std::size_t cols = grid.step_cols(out.size());
  for (std::size_t g = 0; g < groups.size(); ++g) {
    const auto of_group = codes.subspan(g * cols, cols);
    const auto values = out.subspan(g * cols, cols);
    if (levels.empty())
      step_values(of_group, groups[g].step, groups[g].offset, values);
    else
      for (std::size_t i = 0; i < cols; ++i)
        values[i] = groups[g].step * levels[static_cast<std::size_t>(of_group[i])] + groups[g].offset;
  }
}

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
  if (mask_.empty()) {
    grid_->fit(weights, importance, rule, side(row, unit));
  } else {  // pruned weights are zeros that do not count
    std::vector<float> left(weights.begin(), weights.end());
    std::vector<float> counted(importance.begin(), importance.end());
    for (std::size_t i = 0; i < left.size(); ++i)
      if (!mask_.kept(row, unit * unit_cols_ + i)) left[i] = counted[i] = 0;
    grid_->fit(left, counted, rule, side(row, unit));
  }
  refresh_groups(row, unit);
}

void Encoding::prune(const SparsityPattern& pattern, Mask mask) {
  assert(mask.shape() == shape_);
  pattern_ = pattern;
  mask_ = std::move(mask);
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
      for (std::size_t c = 0; c < weights.cols(); ++c)
        if (!kept(r, c)) all[r * weights.cols() + c] = all_importance[r * weights.cols() + c] = 0;
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
  return value_of(*grid_, group(row, col), codes_[row * shape_.cols + col]);
}

float Encoding::round_at(std::size_t row, std::size_t col, float x) {
  if (!kept(row, col)) x = 0;
  std::int16_t& code = codes_[row * shape_.cols + col];
  round_values(*grid_, group(row, col), std::span(&x, 1), std::span(&code, 1));
  return value_of(*grid_, group(row, col), code);
}

void Encoding::round_row(std::size_t row, std::span<const float> weights) {
  assert(weights.size() == shape_.cols);
  std::vector<float> left;
  if (!mask_.empty()) {
    left.assign(weights.begin(), weights.end());
    for (std::size_t c = 0; c < shape_.cols; ++c)
      if (!mask_.kept(row, c)) left[c] = 0;
    weights = left;
  }
  for (std::size_t c = 0; c < shape_.cols; c += step_cols_)
    round_values(*grid_, group(row, c), weights.subspan(c, step_cols_), codes(row).subspan(c, step_cols_));
}

std::shared_ptr<const CompressedTensor> Encoding::finish() const {
  if (pattern_) return pack_sparse(grid_, *pattern_, mask_, std::span(codes_), std::span(side_));
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
  if (const auto dtype = grid_->float_values())
    return std::make_shared<DenseTensor>(*dtype, shape_, std::move(payload));
  return std::make_shared<QuantizedTensor>(grid_, shape_, std::move(payload));
}

QuantizedTensor::QuantizedTensor(std::shared_ptr<const Grid> grid, Shape shape, ByteArray payload)
    : grid_(std::move(grid)), shape_(shape), payload_(std::move(payload)) {
  if (const auto reason = grid_->cannot_hold(shape.cols)) fail(ErrorKind::bad_data, "{}", *reason);
  if (payload_.size() != grid_->bytes(shape))
    fail(ErrorKind::bad_data, "{} x {} weights in {} take {} bytes, not {}", shape.rows, shape.cols, grid_->name(),
         grid_->bytes(shape), payload_.size());
}

std::span<const std::byte> QuantizedTensor::row(std::size_t r) const {
  const std::size_t row_bytes = grid_->row_bytes(shape_.cols);
  return payload().subspan(tensor_side_bytes(*grid_) + r * row_bytes, row_bytes);
}

/// For the side data of a row; those of the tensor, where there is one, are in it.
std::vector<std::byte> QuantizedTensor::side_buffer() const {
  std::vector<std::byte> side(grid_->units(shape_.cols) * grid_->side_bytes());
  std::copy_n(payload_.begin(), tensor_side_bytes(*grid_), side.begin());
  return side;
}

void QuantizedTensor::read_groups(std::span<const std::byte> side, std::span<StepGroup> groups) const {
  const std::size_t side_size = grid_->side_bytes(), per_unit = grid_->groups_per_unit(shape_.cols);
  for (std::size_t u = 0; u < grid_->units(shape_.cols); ++u)
    grid_->read_side(side.subspan(u * side_size, side_size), groups.subspan(u * per_unit, per_unit));
}

void QuantizedTensor::unpack(std::size_t r, std::span<std::int16_t> codes, std::span<StepGroup> groups) const {
  std::vector<std::byte> side = side_buffer();
  grid_->unpack_row(row(r), codes, side);
  read_groups(side, groups);
}

bool QuantizedTensor::steps_bound_values(std::size_t first, std::size_t count) const {
  if (grid_->float_values()) return false;
  const std::span<const float> levels = grid_->levels();
  if (!levels.empty() && levels.size() < std::size_t{1} << grid_->code_bits()) return false;  // some codes are none
  const float largest = levels.empty() ? std::ldexp(1.0f, grid_->code_bits())
                                       : std::max(std::abs(levels.front()), std::abs(levels.back()));
  std::vector<std::byte> side = side_buffer();
  std::vector<StepGroup> groups(shape_.cols / grid_->step_cols(shape_.cols));
  const auto is_bounded = [&](const StepGroup& group) {
    return std::isfinite(std::abs(group.step) * largest + std::abs(group.offset));
  };
  for (std::size_t r = first; r < first + count; ++r) {
    grid_->unpack_side(row(r), shape_.cols, side);
    read_groups(side, groups);
    if (!std::ranges::all_of(groups, is_bounded)) return false;
  }
  return true;
}

void QuantizedTensor::decode_rows(std::size_t first, std::size_t count, std::span<float> out) const {
  assert(first + count <= shape_.rows && out.size() == count * shape_.cols);
  const std::size_t step_cols = grid_->step_cols(shape_.cols);
  std::vector<std::int16_t> codes(shape_.cols);
  std::vector<StepGroup> groups(shape_.cols / step_cols);
  for (std::size_t r = 0; r < count; ++r) {
    unpack(first + r, codes, groups);
    decode_row(*grid_, groups, codes, out.subspan(r * shape_.cols, shape_.cols));
  }
}

}  // namespace adze
