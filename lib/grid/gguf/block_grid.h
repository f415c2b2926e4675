// What all GGUF grids share: a row is a run of blocks, a block is one unit, and the block's bytes are its side data and
// its codes. A layout says where both are; grids differ in how side data are read and fitted.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "base/dtype.h"
#include "grid/fit.h"
#include "grid/grid.h"
#include "linalg/rounding.h"

namespace adze {

/// Bits of all codes of a block. Runs of `run` bytes: byte j of a run has bits of the run's elements j, j + run,
/// j + 2 run ..., lowest bits first, 8 / bits elements a byte.
struct CodeField {
  std::size_t offset = 0;  ///< first byte in the block
  int bits = 0;            ///< 1, 2, 4 or 8; 0: no field
  std::size_t run = 1;
  int shift = 0;  ///< place of the bits in the code
};

/// Bytes of side data that lie together in the block.
struct SidePart {
  std::size_t offset = 0;
  std::size_t bytes = 0;
};

struct BlockLayout {
  const char* name;          ///< "gguf/q4_k"
  const char* smaller_name;  ///< what to use when a row does not divide into blocks; nullptr for none
  std::size_t block_cols;
  std::size_t step_cols;
  std::size_t block_bytes;
  int code_bits;
  bool holds_zero;
  std::array<SidePart, 2> side;
  std::array<CodeField, 2> fields;
  int bias = 0;  ///< stored code minus code

  std::size_t groups() const { return block_cols / step_cols; }
  std::size_t side_bytes() const { return side[0].bytes + side[1].bytes; }
};

class BlockGrid : public Grid {
 public:
  BlockGrid(const BlockLayout& layout, std::vector<ScaleParameter> parameters)
      : layout_(layout), parameters_(std::move(parameters)) {}

  std::string name() const final { return layout_.name; }
  std::size_t unit_cols(std::size_t) const final { return layout_.block_cols; }
  std::size_t step_cols(std::size_t) const final { return layout_.step_cols; }
  std::size_t side_bytes() const final { return layout_.side_bytes(); }
  int code_bits() const final { return layout_.code_bits; }
  bool holds_zero() const final { return layout_.holds_zero; }
  std::optional<std::string> cannot_hold(std::size_t cols) const final;
  std::span<const ScaleParameter> parameters(std::size_t) const final { return parameters_; }
  std::uint64_t row_bytes(std::size_t cols) const final { return cols / layout_.block_cols * layout_.block_bytes; }
  void pack_row(std::span<const std::int16_t> codes, std::span<const std::byte> side,
                std::span<std::byte> out) const final;
  void unpack_row(std::span<const std::byte> in, std::span<std::int16_t> codes, std::span<std::byte> side) const final;
  void unpack_side(std::span<const std::byte> in, std::size_t cols, std::span<std::byte> side) const final;

 protected:
  const BlockLayout& layout() const { return layout_; }
  /// Codes of one block into its bytes, which are zero where the codes go; side data are there already.
  virtual void pack_codes(std::span<const std::int16_t> codes, std::span<std::byte> block) const;
  virtual void unpack_codes(std::span<const std::byte> block, std::span<std::int16_t> codes) const;

 private:
  BlockLayout layout_;
  std::vector<ScaleParameter> parameters_;
};

/// The offset of grids that have none: x + -0.0f is x even where x is a negative zero, as a runtime decodes it.
constexpr float kNoOffset = -0.0f;

/// A scale as f16 keeps it; beyond its range, the largest finite value.
inline float round_to_f16(float scale) { return store_scale(DType::f16, scale); }

/// What Grid::set_parameter stores in place of the f16 `current`.
inline float moved_f16(float current, float value) { return std::isnan(value) ? current : round_to_f16(value); }

/// The same for a scale that is not negative, and stays positive when it is.
inline float moved_positive_f16(float current, float value) {
  constexpr float kSmallest = 0x1p-24f;
  return std::max(moved_f16(current, value), current > 0 ? kSmallest : 0.0f);
}

/// The same for an integer from lo to hi.
inline int moved_integer(int current, float value, int lo, int hi) {
  if (std::isnan(value)) return current;
  return static_cast<int>(round_half_even(std::clamp(value, static_cast<float>(lo), static_cast<float>(hi))));
}

inline void write_f16(std::span<std::byte> out, float value) {
  const std::uint16_t bits = float_to_f16(value);
  std::memcpy(out.data(), &bits, sizeof bits);
}

inline float read_f16(std::span<const std::byte> in) {
  std::uint16_t bits = 0;
  std::memcpy(&bits, in.data(), sizeof bits);
  return f16_to_float(bits);
}

}  // namespace adze
