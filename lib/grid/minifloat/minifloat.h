// Grids whose codes are small floats, as the OCP and NVIDIA formats have them: E4M3 in eight bits (no infinity, largest
// value 448) and E2M1 in four (0, 0.5, 1, 1.5, 2, 3, 4, 6), each with a sign. value = step * element, the step from a
// scale of its own:
//   fp8        E4M3, one f32 scale a row; "fp8 g128": for each group of columns
//   mxfp8      E4M3, a power of two for every 32 columns (E8M0)
//   nvfp4      E2M1, an E4M3 scale for every 16 columns, all divided by one number of the tensor
// MXFP4 is in grid/gguf, whose block it is. Stored row: scales of all units, then codes, the bit patterns of elements;
// two of E2M1 in a byte, the first in the low half.
//
// nvfp4's divisor. Scales need three digits of a float whatever their size, so any divisor that keeps them between
// E4M3's smallest normal number and its largest, fifteen binades, is as good as any other. Ours is 512 for every
// tensor: groups whose largest weight lies between 1.8e-4 and 5.25 lose nothing, larger weights are clipped, and the
// matrices that a runtime fuses have the same divisor. Other divisors are of checkpoints that were read.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "grid/grid.h"

namespace adze {

enum class MinifloatScale { f32, e8m0, e4m3 };

struct MinifloatSpec {
  int bits = 8;  ///< 8: E4M3, 4: E2M1
  MinifloatScale scale = MinifloatScale::f32;
  std::size_t group = 0;  ///< columns per scale; 0: the row
  float divisor = 1;      ///< of scales; other than 1 for e4m3 alone

  std::size_t group_cols(std::size_t cols) const { return group == 0 ? cols : group; }
  std::size_t scale_bytes() const { return scale == MinifloatScale::f32 ? 4 : 1; }
  bool operator==(const MinifloatSpec&) const = default;
};

constexpr float kNvfp4Divisor = 512;

/// What a grid of small floats is made of, gguf/mxfp4 included; nothing for other grids.
std::optional<MinifloatSpec> minifloat_spec_of(const Grid& grid);
/// The same of Grid::name().
std::optional<MinifloatSpec> minifloat_spec_from_name(const std::string& name);

/// Throws bad_recipe for a spec that is none of the above.
std::shared_ptr<const Grid> make_minifloat_grid(const MinifloatSpec& spec);

/// Elements by the index that solvers use: ascending, zero of either sign, so that every bit pattern but NaN has one.
std::span<const float> minifloat_levels(int bits);
/// Bit pattern of an index, and back. Throws bad_data for E4M3's NaN, which has no index.
std::uint8_t minifloat_pattern(int bits, int index);
int minifloat_index(int bits, std::uint8_t pattern);

/// E4M3 without sign: 0 .. 0x7E are 0 .. 448. NaN for 0x7F.
float e4m3_value(std::uint8_t magnitude);
/// The nearest, half way the even one; 448 for what is larger, 0 for what is not positive.
std::uint8_t nearest_e4m3(float value);
/// 2^(e - 127); NaN for 255.
float e8m0_value(std::uint8_t exponent);
/// The nearest power of two, half way the lower; within those whose product with `largest` is a float.
std::uint8_t nearest_e8m0(float value, float largest);

}  // namespace adze
