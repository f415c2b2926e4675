// What all GGUF grids share: a row is a run of blocks, a block is one unit, and the block's bytes are its side data and
// its codes.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/dtype.h"
#include "grid/grid.h"
#include "linalg/rounding.h"

namespace adze {

struct BlockLayout {
  const char* name;          ///< "gguf/q4_k"
  const char* smaller_name;  ///< what to use when a row does not divide into blocks; nullptr for none
  std::size_t block_cols;
  std::size_t step_cols;
  std::size_t block_bytes;
  std::size_t side_bytes;
  int code_bits;
  bool holds_zero;
};

class BlockGrid : public Grid {
 public:
  BlockGrid(const BlockLayout& layout, std::vector<ScaleParameter> parameters)
      : layout_(layout), parameters_(std::move(parameters)) {}

  std::string name() const final { return layout_.name; }
  std::size_t unit_cols(std::size_t) const final { return layout_.block_cols; }
  std::size_t step_cols(std::size_t) const final { return layout_.step_cols; }
  std::size_t side_bytes() const final { return layout_.side_bytes; }
  int code_bits() const final { return layout_.code_bits; }
  bool holds_zero() const final { return layout_.holds_zero; }

  std::optional<std::string> cannot_hold(std::size_t cols) const final {
    if (cols > 0 && cols % layout_.block_cols == 0) return std::nullopt;
    const bool smaller_fits = layout_.smaller_name != nullptr && cols % 32 == 0;
    return fmt::format("{}: rows of {} columns do not divide into blocks of {}; {}", name(), cols, layout_.block_cols,
                       smaller_fits ? fmt::format("grid: {} fits", layout_.smaller_name) : "keep it with store: f16");
  }
  std::span<const ScaleParameter> parameters(std::size_t) const final { return parameters_; }
  std::uint64_t row_bytes(std::size_t cols) const final { return cols / layout_.block_cols * layout_.block_bytes; }

  void pack_row(std::span<const std::int16_t> codes, std::span<const std::byte> side,
                std::span<std::byte> out) const final {
    for (std::size_t b = 0; b * layout_.block_cols < codes.size(); ++b)
      pack_block(codes.subspan(b * layout_.block_cols, layout_.block_cols),
                 side.subspan(b * layout_.side_bytes, layout_.side_bytes),
                 out.subspan(b * layout_.block_bytes, layout_.block_bytes));
  }
  void unpack_row(std::span<const std::byte> in, std::span<std::int16_t> codes, std::span<std::byte> side) const final {
    for (std::size_t b = 0; b * layout_.block_cols < codes.size(); ++b)
      unpack_block(in.subspan(b * layout_.block_bytes, layout_.block_bytes),
                   codes.subspan(b * layout_.block_cols, layout_.block_cols),
                   side.subspan(b * layout_.side_bytes, layout_.side_bytes));
  }

 protected:
  virtual void pack_block(std::span<const std::int16_t> codes, std::span<const std::byte> side,
                          std::span<std::byte> block) const = 0;
  virtual void unpack_block(std::span<const std::byte> block, std::span<std::int16_t> codes,
                            std::span<std::byte> side) const = 0;

 private:
  BlockLayout layout_;
  std::vector<ScaleParameter> parameters_;
};

/// The offset of grids that have none: x + -0.0f is x even where x is a negative zero, as a runtime decodes it.
constexpr float kNoOffset = -0.0f;

/// A scale as f16 keeps it; beyond its range, the largest finite value.
inline float round_to_f16(float scale) {
  const float largest = 65504.0f;
  return f16_to_float(float_to_f16(scale > largest ? largest : scale < -largest ? -largest : scale));
}

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
