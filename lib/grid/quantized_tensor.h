// Codes and side data of a whole matrix: while a solver fills them in (Encoding), and as stored (QuantizedTensor, or
// with a mask SparseTensor).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/byte_array.h"
#include "base/zeroed_array.h"
#include "grid/compressed_tensor.h"
#include "grid/grid.h"
#include "grid/sparse/mask.h"
#include "grid/sparse/pattern.h"

namespace adze {

/// What a solver fills in. Rows may be written by different threads; one row by one thread at a time.
class Encoding {
 public:
  Encoding(std::shared_ptr<const Grid> grid, Shape shape);

  const Grid& grid() const { return *grid_; }
  Shape shape() const { return shape_; }

  /// From now on pruned weights are zero: side data are fitted to the others, rounding leaves zeros alone, and finish()
  /// stores the mask. The mask must have the pattern by then (internal otherwise), not before: solvers may still prune.
  void prune(const SparsityPattern& pattern, Mask mask);
  /// Empty where nothing is pruned.
  const Mask& mask() const { return mask_; }
  Mask& mask() { return mask_; }
  const std::optional<SparsityPattern>& pattern() const { return pattern_; }
  bool kept(std::size_t row, std::size_t col) const { return mask_.empty() || mask_.kept(row, col); }

  /// Columns of a unit and of a step group.
  std::size_t unit_cols() const { return unit_cols_; }
  std::size_t step_cols() const { return step_cols_; }

  /// Fits side data of row `row`'s unit `unit` to `weights` (unit_cols values) and makes its step groups current.
  void fit_unit(std::size_t row, std::size_t unit, std::span<const float> weights, std::span<const float> importance,
                ScaleRule rule);
  /// Fits every unit of every row. For grids with one side per tensor this is the only way.
  /// importance: cols values, the same for every row.
  void fit_all(ConstViewF weights, std::span<const float> importance, ScaleRule rule);

  /// The step group of a weight, after its unit was fitted.
  const StepGroup& group(std::size_t row, std::size_t col) const {
    return groups_[row * groups_per_row_ + col / step_cols_];
  }
  std::span<std::int16_t> codes(std::size_t row) { return std::span(codes_).subspan(row * shape_.cols, shape_.cols); }
  /// The value that a code stands for; of pruned weights the code must be that of zero.
  float value(std::size_t row, std::size_t col) const;
  /// Sets a weight's code to the one nearest to x, or, where it is pruned, to that of zero; its value.
  float round_at(std::size_t row, std::size_t col, float x);
  /// Sets the codes of a row to those nearest to `weights` (cols values).
  void round_row(std::size_t row, std::span<const float> weights);

  /// Stored side data of a unit; what Grid::parameters and Grid::slopes take.
  std::span<const std::byte> side_of(std::size_t row, std::size_t unit) const;
  /// Puts back side data read before. Not for grids with one side per tensor.
  void set_side(std::size_t row, std::size_t unit, std::span<const std::byte> bytes);
  /// As in Grid; after set_parameter the unit's step groups are current. Not for grids with one side per tensor.
  float parameter(std::size_t row, std::size_t unit, std::size_t index) const;
  void set_parameter(std::size_t row, std::size_t unit, std::size_t index, float value);

  std::shared_ptr<const CompressedTensor> finish() const;

 private:
  std::size_t side_start(std::size_t row, std::size_t unit) const;
  void require_own_side() const;
  std::span<std::byte> side(std::size_t row, std::size_t unit);
  void refresh_groups(std::size_t row, std::size_t unit);

  std::shared_ptr<const Grid> grid_;
  Shape shape_;
  std::size_t unit_cols_;
  std::size_t step_cols_;
  std::size_t units_;
  std::size_t side_bytes_;
  std::size_t groups_per_row_;
  ZeroedArray<std::int16_t> codes_;
  ZeroedArray<std::byte> side_;
  ZeroedArray<StepGroup> groups_;
  std::optional<SparsityPattern> pattern_;
  Mask mask_;
};

/// Codes nearest to x, all in one step group.
void round_values(const Grid& grid, const StepGroup& group, std::span<const float> x, std::span<std::int16_t> codes);
/// What a code of a step group stands for.
float value_of(const Grid& grid, const StepGroup& group, std::int16_t code);
/// What those of a row do. groups: one for every step_cols() of its columns.
void decode_row(const Grid& grid, std::span<const StepGroup> groups, std::span<const std::int16_t> codes,
                std::span<float> out);

/// Stored codes and side data: payload = [side data of the tensor, if the grid keeps them once] then packed rows.
class QuantizedTensor final : public CompressedTensor {
 public:
  /// Throws bad_data when the payload's size is not what grid and shape say.
  QuantizedTensor(std::shared_ptr<const Grid> grid, Shape shape, ByteArray payload);

  const Grid& grid() const { return *grid_; }
  Shape shape() const override { return shape_; }
  std::uint64_t bytes() const override { return payload_.size(); }
  std::string format() const override { return grid_->name(); }
  void decode_rows(std::size_t first, std::size_t count, std::span<float> out) const override;
  std::span<const std::byte> payload() const override { return payload_; }
  /// Packed bytes of one row.
  std::span<const std::byte> row(std::size_t r) const;
  /// Codes and step groups of one row; codes: cols entries, groups: cols / step_cols entries.
  void unpack(std::size_t r, std::span<std::int16_t> codes, std::span<StepGroup> groups) const;
  /// True where the steps and offsets of these rows keep every value finite, whatever the codes are. False says
  /// nothing.
  bool steps_bound_values(std::size_t first, std::size_t count) const;

 private:
  /// Step groups from the side data of all units of a row.
  void read_groups(std::span<const std::byte> side, std::span<StepGroup> groups) const;
  std::vector<std::byte> side_buffer() const;

  std::shared_ptr<const Grid> grid_;
  Shape shape_;
  ByteArray payload_;
};

}  // namespace adze
