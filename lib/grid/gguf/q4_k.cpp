// Q4_K (gguf.md 5.9): d f16, dmin f16, 8 six-bit scales and minima in 12 bytes, 128 bytes of nibbles.
// value = (d * sc_k) * q - (dmin * m_k), q in 0 .. 15, k the group of 32 columns.
//
// Fitting: each group's own best step and offset first; then d and dmin, and the six-bit integers chosen by the true
// weighted error near the rounded values; then d and dmin refitted to the codes. Every step keeps the better of the
// two.
#include <algorithm>
#include <array>
#include <cmath>

#include "grid/fit.h"
#include "grid/gguf/block_grid.h"
#include "grid/gguf/gguf_grids.h"
#include "linalg/rounding.h"

namespace adze {
namespace {

constexpr std::size_t kGroups = 8;
constexpr std::size_t kGroupCols = 32;
constexpr int kLargestScale = 63;
constexpr float kLargestCode = 15;

struct SuperBlock {
  float d = 0;
  float dmin = 0;
  std::array<int, kGroups> scale{};
  std::array<int, kGroups> min{};

  float step(std::size_t k) const { return d * static_cast<float>(scale[k]); }
  float offset(std::size_t k) const { return -(dmin * static_cast<float>(min[k])); }
};

SuperBlock read_super_block(std::span<const std::byte> side) {
  SuperBlock block{read_f16(side), read_f16(side.subspan(2)), {}, {}};
  const auto byte = [&](std::size_t i) { return std::to_integer<int>(side[4 + i]); };
  for (std::size_t k = 0; k < 4; ++k) {
    block.scale[k] = byte(k) & 63;
    block.min[k] = byte(k + 4) & 63;
    block.scale[k + 4] = (byte(k + 8) & 15) | (byte(k) >> 6) << 4;
    block.min[k + 4] = (byte(k + 8) >> 4) | (byte(k + 4) >> 6) << 4;
  }
  return block;
}

void write_super_block(const SuperBlock& block, std::span<std::byte> side) {
  write_f16(side, block.d);
  write_f16(side.subspan(2), block.dmin);
  for (std::size_t k = 0; k < 4; ++k) {
    const int scale = block.scale[k + 4];
    const int min = block.min[k + 4];
    side[4 + k] = static_cast<std::byte>(block.scale[k] | (scale >> 4) << 6);
    side[8 + k] = static_cast<std::byte>(block.min[k] | (min >> 4) << 6);
    side[12 + k] = static_cast<std::byte>((scale & 15) | (min & 15) << 4);
  }
}

int nearest_six_bits(float value, float unit) {
  if (unit <= 0) return 0;
  return static_cast<int>(std::clamp(round_half_even(value / unit), 0.0f, static_cast<float>(kLargestScale)));
}

/// d and dmin such that the largest group values are representable, and the nearest six-bit integers.
SuperBlock quantize_scales(const std::array<AffineFit, kGroups>& fits) {
  float largest_step = 0;
  float largest_min = 0;
  for (const AffineFit& fit : fits) {
    largest_step = std::max(largest_step, fit.step);
    largest_min = std::max(largest_min, -fit.offset);
  }
  SuperBlock block{round_to_f16(largest_step / kLargestScale), round_to_f16(largest_min / kLargestScale), {}, {}};
  for (std::size_t k = 0; k < kGroups; ++k) {
    block.scale[k] = nearest_six_bits(fits[k].step, block.d);
    block.min[k] = nearest_six_bits(-fits[k].offset, block.dmin);
  }
  return block;
}

/// The weights of a super-block with their importance.
struct Target {
  std::span<const float> weights;
  std::span<const float> importance;

  std::span<const float> group_weights(std::size_t k) const { return weights.subspan(k * kGroupCols, kGroupCols); }
  std::span<const float> group_importance(std::size_t k) const {
    return importance.subspan(k * kGroupCols, kGroupCols);
  }

  double group_error(std::size_t k, float step, float offset) const {
    if (step > 0) return rounding_error(group_weights(k), group_importance(k), step, offset, 0, kLargestCode);
    double error = 0;
    for (std::size_t i = k * kGroupCols; i < (k + 1) * kGroupCols; ++i) {
      const double difference = static_cast<double>(weights[i]) - offset;
      error += importance[i] * difference * difference;
    }
    return error;
  }
  double error(const SuperBlock& block) const {
    double sum = 0;
    for (std::size_t k = 0; k < kGroups; ++k) sum += group_error(k, block.step(k), block.offset(k));
    return sum;
  }
};

/// Moves each group's integers to the best of the neighbours of the values given.
void choose_integers(const Target& target, SuperBlock& block) {
  for (std::size_t k = 0; k < kGroups; ++k) {
    const int scale = block.scale[k];
    const int min = block.min[k];
    double best = target.group_error(k, block.step(k), block.offset(k));  // ties keep what is there
    for (int s = std::max(scale - 1, 0); s <= std::min(scale + 1, kLargestScale); ++s) {
      for (int m = std::max(min - 1, 0); m <= std::min(min + 1, kLargestScale); ++m) {
        const double error =
            target.group_error(k, block.d * static_cast<float>(s), -(block.dmin * static_cast<float>(m)));
        if (error < best) {
          best = error;
          block.scale[k] = s;
          block.min[k] = m;
        }
      }
    }
  }
}

/// Least squares over (d, dmin) with codes and six-bit integers fixed: w ~ d * (sc l) - dmin * m.
SuperBlock refit(const Target& target, const SuperBlock& block) {
  double aa = 0, ab = 0, bb = 0, ax = 0, bx = 0;
  for (std::size_t k = 0; k < kGroups; ++k) {
    if (block.step(k) <= 0) continue;
    for (std::size_t i = k * kGroupCols; i < (k + 1) * kGroupCols; ++i) {
      const float scaled = (target.weights[i] - block.offset(k)) / block.step(k);
      const double l = round_half_even(std::clamp(scaled, 0.0f, kLargestCode));
      const double a = block.scale[k] * l;
      const double b = -block.min[k];
      const double h = target.importance[i];
      aa += h * a * a;
      ab += h * a * b;
      bb += h * b * b;
      ax += h * a * target.weights[i];
      bx += h * b * target.weights[i];
    }
  }
  SuperBlock refitted = block;
  const double determinant = aa * bb - ab * ab;
  if (determinant > 1e-9 * aa * bb) {
    refitted.d = round_to_f16(static_cast<float>((bb * ax - ab * bx) / determinant));
    refitted.dmin = round_to_f16(static_cast<float>((aa * bx - ab * ax) / determinant));
  } else if (aa > 0) {
    refitted.d = round_to_f16(static_cast<float>(ax / aa));
  }
  return refitted.d > 0 && refitted.dmin >= 0 ? refitted : block;
}

SuperBlock search(const Target& target) {
  std::array<AffineFit, kGroups> fits;
  for (std::size_t k = 0; k < kGroups; ++k)
    fits[k] = fit_step_and_offset(target.group_weights(k), target.group_importance(k), kLargestCode);
  SuperBlock best = quantize_scales(fits);
  choose_integers(target, best);
  double best_error = target.error(best);
  constexpr int kRefits = 2;  // a third changes the error by less than 0.1 % on trained weights
  for (int i = 0; i < kRefits; ++i) {
    SuperBlock candidate = refit(target, best);
    choose_integers(target, candidate);
    const double error = target.error(candidate);
    if (!(error < best_error)) break;
    best = candidate;
    best_error = error;
  }
  return best;
}

SuperBlock minmax(std::span<const float> weights) {
  std::array<AffineFit, kGroups> fits;
  for (std::size_t k = 0; k < kGroups; ++k) {
    const auto group = weights.subspan(k * kGroupCols, kGroupCols);
    const auto [lo, hi] = extremes_of(group, {});
    fits[k] = {(hi - lo) / kLargestCode, lo};
  }
  return quantize_scales(fits);
}

/// d, dmin, then the eight scales, then the eight minima.
std::vector<Grid::ScaleParameter> all_parameters() {
  std::vector<Grid::ScaleParameter> all(2, {0, kGroups});
  for (int i = 0; i < 2; ++i)
    for (std::size_t k = 0; k < kGroups; ++k) all.push_back({k, 1});
  return all;
}

class Q4KGrid final : public BlockGrid {
 public:
  Q4KGrid() : BlockGrid({"gguf/q4_k", "gguf/q4_0", 256, kGroupCols, 144, 16, 4, false}, all_parameters()) {}

  void fit(std::span<const float> weights, std::span<const float> importance, ScaleRule rule,
           std::span<std::byte> side) const override {
    write_super_block(rule == ScaleRule::minmax ? minmax(weights) : search({weights, importance}), side);
  }
  void read_side(std::span<const std::byte> side, std::span<StepGroup> groups) const override {
    const SuperBlock block = read_super_block(side);
    for (std::size_t k = 0; k < kGroups; ++k) groups[k] = {block.step(k), block.offset(k), 0.0f, kLargestCode};
  }
  float parameter(std::span<const std::byte> side, std::size_t index) const override {
    const SuperBlock block = read_super_block(side);
    if (index < 2) return index == 0 ? block.d : block.dmin;
    return static_cast<float>(index < 2 + kGroups ? block.scale[index - 2] : block.min[index - 2 - kGroups]);
  }
  void set_parameter(std::span<std::byte> side, std::size_t index, float value) const override {
    SuperBlock block = read_super_block(side);
    if (index == 0) {
      block.d = moved_positive_f16(block.d, value);
    } else if (index == 1) {
      block.dmin = std::max(moved_f16(block.dmin, value), 0.0f);
    } else {
      int& integer = index < 2 + kGroups ? block.scale[index - 2] : block.min[index - 2 - kGroups];
      integer = moved_integer(integer, value, 0, kLargestScale);
    }
    write_super_block(block, side);
  }
  void slopes(std::span<const std::byte> side, std::size_t index, std::span<Slope> slopes) const override {
    const SuperBlock block = read_super_block(side);
    for (std::size_t k = 0; k < slopes.size(); ++k) {
      if (index == 0) slopes[k] = {static_cast<float>(block.scale[k]), 0};
      if (index == 1) slopes[k] = {0, -static_cast<float>(block.min[k])};
      if (index >= 2) slopes[k] = index < 2 + kGroups ? Slope{block.d, 0} : Slope{0, -block.dmin};
    }
  }

 protected:
  void pack_block(std::span<const std::int16_t> codes, std::span<const std::byte> side,
                  std::span<std::byte> block) const override {
    std::copy(side.begin(), side.end(), block.begin());
    for (std::size_t i = 0; i < 128; ++i) {  // byte i: low nibble group 2 * (i / 32), high nibble the group after it
      const std::size_t even = 64 * (i / 32) + i % 32;
      block[16 + i] = static_cast<std::byte>(codes[even] | (codes[even + 32] << 4));
    }
  }
  void unpack_block(std::span<const std::byte> block, std::span<std::int16_t> codes,
                    std::span<std::byte> side) const override {
    std::copy_n(block.begin(), side.size(), side.begin());
    for (std::size_t i = 0; i < 128; ++i) {
      const std::size_t even = 64 * (i / 32) + i % 32;
      const int both = std::to_integer<int>(block[16 + i]);
      codes[even] = static_cast<std::int16_t>(both & 15);
      codes[even + 32] = static_cast<std::int16_t>(both >> 4);
    }
  }
};

}  // namespace

std::shared_ptr<const Grid> make_q4_k_grid() { return std::make_shared<Q4KGrid>(); }

}  // namespace adze
