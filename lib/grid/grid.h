// A grid says which values a weight may take and how they are stored. Solvers only see this interface, so that GPTQ
// rounds to GGUF's nested scales exactly as it rounds to plain integers.
//
// Inside a step group a grid is affine, value = step * code + offset with lo <= code <= hi, or has a codebook, value =
// step * levels()[code] + offset. Columns of a row are cut into units: the columns whose side data (scales, minima,
// zero points) are chosen and stored together; a unit holds one or more step groups. The life of a unit in a solver:
//   fit()        chooses the side data from the weights as they are now, and writes their stored bytes
//   read_side()  gives the effective steps and offsets, exactly as a runtime decodes them from the stored bytes
//   round        (linalg/rounding.h) to those
//   slopes(), set_parameter()  may then improve the side data for the codes chosen, one stored number at a time
//   pack_row()   side data and codes -> the stored bytes of a row
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "base/dtype.h"
#include "base/matrix.h"

namespace adze {

/// One step group: value = step * code + offset, lo <= code <= hi; with a codebook, step * levels()[code] + offset.
struct StepGroup {
  float step = 0;
  float offset = 0;
  float lo = 0;
  float hi = 0;
};

/// How side data are chosen.
enum class ScaleRule {
  minmax,  ///< the extremes decide (plain round-to-nearest)
  search,  ///< least weighted squared error over candidate scales
};

class Grid {
 public:
  virtual ~Grid() = default;

  /// As in recipes: "gguf/q4_k"; integer grids "int4 g128 sym".
  virtual std::string name() const = 0;
  /// Columns of one unit in a row of `cols` columns.
  virtual std::size_t unit_cols(std::size_t cols) const = 0;
  /// Columns of one step group; divides unit_cols.
  virtual std::size_t step_cols(std::size_t cols) const = 0;
  /// Bytes of side data of a unit, as fit() writes them.
  virtual std::size_t side_bytes() const = 0;
  /// True when one unit's side data serve every row (per-tensor scales); then they are fitted to the whole matrix.
  virtual bool one_side_per_tensor() const { return false; }
  /// Bits of a code alone.
  virtual int code_bits() const = 0;
  /// True when zero is a value of every step group.
  virtual bool holds_zero() const = 0;
  /// Levels of a codebook grid, ascending: value = step * levels()[code] + offset, code an index (0 .. size - 1, lo =
  /// 0, hi = size - 1). Empty for affine grids, where value = step * code + offset.
  virtual std::span<const float> levels() const { return {}; }
  /// The dtype of grids of floats, whose codes are the bits of values (grid/float_grid.h); they have no scales.
  virtual std::optional<DType> float_values() const { return std::nullopt; }

  /// The largest magnitude that a value can have; nothing where scales grow as they must.
  virtual std::optional<float> largest_value() const { return std::nullopt; }

  /// Nothing when rows of `cols` columns can be stored, else the reason and the nearest choice that fits.
  virtual std::optional<std::string> cannot_hold(std::size_t cols) const = 0;

  /// Exact bytes of a stored row, without side data that are stored once per tensor.
  virtual std::uint64_t row_bytes(std::size_t cols) const = 0;

  /// Chooses side data for one unit. weights and importance: unit_cols values each; importance >= 0 weighs squared
  /// errors (diag H, or anything proportional). side: side_bytes() bytes.
  virtual void fit(std::span<const float> weights, std::span<const float> importance, ScaleRule rule,
                   std::span<std::byte> side) const = 0;
  /// Effective steps of a unit from its stored side data. groups: unit_cols / step_cols entries.
  virtual void read_side(std::span<const std::byte> side, std::span<StepGroup> groups) const = 0;

  /// A stored number of a unit's side data. With everything else fixed, the values of `groups` step groups from
  /// `first_group` depend on it linearly; other groups do not depend on it. Solvers improve side data through these
  /// once codes are fixed.
  struct ScaleParameter {
    std::size_t first_group = 0;
    std::size_t groups = 1;
  };
  /// How step and offset of a group move when a parameter grows by one.
  struct Slope {
    float step = 0;
    float offset = 0;
  };
  /// The unit's parameters; empty when side data cannot be moved (one side per tensor). The functions after it take an
  /// index into these; a grid without parameters throws internal.
  virtual std::span<const ScaleParameter> parameters(std::size_t cols) const;
  /// The current value.
  virtual float parameter(std::span<const std::byte> side, std::size_t index) const;
  /// Stores the nearest value to `value` that the format can hold (f16, an integer range, a power of two ...), within
  /// the limits of the format's convention: a scale that must not be negative and is not zero stays above zero. A value
  /// that is not a number changes nothing.
  virtual void set_parameter(std::span<std::byte> side, std::size_t index, float value) const;
  /// slopes[k]: of group first_group + k of the parameter; `groups` entries.
  virtual void slopes(std::span<const std::byte> side, std::size_t index, std::span<Slope> slopes) const;

  /// codes: cols entries; side: all units of the row one after the other (the tensor's, where there is one per tensor);
  /// out: row_bytes(cols).
  virtual void pack_row(std::span<const std::int16_t> codes, std::span<const std::byte> side,
                        std::span<std::byte> out) const = 0;
  /// The inverse of pack_row. Side data that are stored once per tensor are in `side` already.
  virtual void unpack_row(std::span<const std::byte> in, std::span<std::int16_t> codes,
                          std::span<std::byte> side) const = 0;
  /// Its side data alone, of a row of `cols` columns.
  virtual void unpack_side(std::span<const std::byte> in, std::size_t cols, std::span<std::byte> side) const;

  std::size_t units(std::size_t cols) const { return cols / unit_cols(cols); }
  std::size_t groups_per_unit(std::size_t cols) const { return unit_cols(cols) / step_cols(cols); }
  /// Exact bytes of a stored matrix, everything counted.
  std::uint64_t bytes(Shape shape) const;
};

/// The grid of a recipe's scheme: `name` is "int2" ... "int8" (with group and symmetric) or "gguf/q8_0" and so on.
struct GridRequest {
  std::string name;
  std::optional<std::size_t> group;  ///< columns per scale; integer grids only
  std::string scope = "group";       ///< "group", "channel" (one scale a row) or "tensor"; integer grids only
  std::optional<bool> symmetric;     ///< integer grids only; default true
  std::string scales = "f16";        ///< "f16", "bf16", "f32"; integer grids only
};

/// Throws bad_recipe for an unknown name (with the nearest) or options that the grid does not have.
std::shared_ptr<const Grid> make_grid(const GridRequest& request);

/// The inverse of Grid::name(), for stores. Throws bad_data for a name that no grid has.
std::shared_ptr<const Grid> grid_from_name(const std::string& name);

/// The same, and "f16" and "bf16" for grids of floats.
std::shared_ptr<const Grid> value_grid_from_name(const std::string& name);

/// Every name that make_grid accepts.
std::span<const std::string> grid_names();

}  // namespace adze
