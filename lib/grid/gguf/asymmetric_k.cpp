// Q2_K, Q4_K, Q5_K (gguf.md 5.7, 5.9, 5.10): super-blocks of 256 with f16 d and dmin, and an integer scale and minimum
// for each group; value = (d * sc_k) * code - (dmin * m_k), code >= 0.
//
// Fitting: each group's own best step, offset and codes first; then, for those codes, the integers, d
// and dmin; then the integers by the true weighted error near what came out, and d and dmin once more.
#include <algorithm>
#include <array>
#include <cmath>

#include "grid/gguf/block_grid.h"
#include "grid/gguf/gguf_grids.h"
#include "linalg/affine_search.h"

namespace adze {
namespace {

constexpr std::size_t kBlockCols = 256;
constexpr std::size_t kMostGroups = 16;

struct SuperBlock {
  float d = 0;
  float dmin = 0;
  std::array<int, kMostGroups> scale{};
  std::array<int, kMostGroups> min{};

  float step(std::size_t k) const { return d * static_cast<float>(scale[k]); }
  float offset(std::size_t k) const { return -(dmin * static_cast<float>(min[k])); }
};

/// Where a type keeps d, dmin and the integers among its side data.
struct Family {
  float largest_code;
  int largest_integer;
  std::size_t floats_at;  ///< d, then dmin
  std::size_t integers_at;
  void (*read)(std::span<const std::byte> bytes, SuperBlock& block);
  void (*write)(const SuperBlock& block, std::span<std::byte> bytes);
};

int byte_at(std::span<const std::byte> bytes, std::size_t i) { return std::to_integer<int>(bytes[i]); }

/// A byte a group: scale in the low nibble, minimum in the high one.
void read_nibbles(std::span<const std::byte> bytes, SuperBlock& block) {
  for (std::size_t k = 0; k < 16; ++k) {
    block.scale[k] = byte_at(bytes, k) & 15;
    block.min[k] = byte_at(bytes, k) >> 4;
  }
}

void write_nibbles(const SuperBlock& block, std::span<std::byte> bytes) {
  for (std::size_t k = 0; k < 16; ++k) bytes[k] = static_cast<std::byte>(block.scale[k] | block.min[k] << 4);
}

/// Eight scales and eight minima of six bits in 12 bytes.
void read_six_bits(std::span<const std::byte> bytes, SuperBlock& block) {
  for (std::size_t k = 0; k < 4; ++k) {
    block.scale[k] = byte_at(bytes, k) & 63;
    block.min[k] = byte_at(bytes, k + 4) & 63;
    block.scale[k + 4] = (byte_at(bytes, k + 8) & 15) | (byte_at(bytes, k) >> 6) << 4;
    block.min[k + 4] = (byte_at(bytes, k + 8) >> 4) | (byte_at(bytes, k + 4) >> 6) << 4;
  }
}

void write_six_bits(const SuperBlock& block, std::span<std::byte> bytes) {
  for (std::size_t k = 0; k < 4; ++k) {
    const int scale = block.scale[k + 4];
    const int min = block.min[k + 4];
    bytes[k] = static_cast<std::byte>(block.scale[k] | (scale >> 4) << 6);
    bytes[k + 4] = static_cast<std::byte>(block.min[k] | (min >> 4) << 6);
    bytes[k + 8] = static_cast<std::byte>((scale & 15) | (min & 15) << 4);
  }
}

/// d and dmin that fit the codes of `fit` best, by least squares; the present ones where those are no better once they
/// are stored, or have a wrong sign.
SharedScales refitted(const SharedScales& present, const SharedFit& fit) {
  SharedScales moved = present;
  const double determinant = fit.aa * fit.bb - fit.ab * fit.ab;
  if (determinant > 1e-9 * fit.aa * fit.bb) {
    moved.d = round_to_f16(static_cast<float>((fit.bb * fit.ax - fit.ab * fit.bx) / determinant));
    moved.dmin = round_to_f16(static_cast<float>((fit.aa * fit.bx - fit.ab * fit.ax) / determinant));
  } else if (fit.aa > 0) {
    moved.d = round_to_f16(static_cast<float>((fit.ax - fit.ab * present.dmin) / fit.aa));
  }
  const bool better = fit.error(moved.d, moved.dmin) < fit.error(present.d, present.dmin);
  return better && moved.d > 0 && moved.dmin >= 0 ? moved : present;
}

class AsymmetricSuperBlocks final : public BlockGrid {
 public:
  AsymmetricSuperBlocks(const BlockLayout& layout, const Family& family)
      : BlockGrid(layout, all_parameters(layout.groups())), family_(family) {}

  void fit(std::span<const float> weights, std::span<const float> importance, ScaleRule rule,
           std::span<std::byte> side) const override {
    write(rule == ScaleRule::minmax ? minmax(weights) : search(weights, importance), side);
  }
  void read_side(std::span<const std::byte> side, std::span<StepGroup> groups) const override {
    const SuperBlock block = read(side);
    for (std::size_t k = 0; k < groups.size(); ++k)
      groups[k] = {block.step(k), block.offset(k), 0.0f, family_.largest_code};
  }
  float parameter(std::span<const std::byte> side, std::size_t index) const override {
    SuperBlock block = read(side);
    if (index < 2) return index == 0 ? block.d : block.dmin;
    return static_cast<float>(integer_of(block, index));
  }
  void set_parameter(std::span<std::byte> side, std::size_t index, float value) const override {
    SuperBlock block = read(side);
    if (index == 0) {
      block.d = moved_positive_f16(block.d, value);
    } else if (index == 1) {
      block.dmin = std::max(moved_f16(block.dmin, value), 0.0f);
    } else {
      int& integer = integer_of(block, index);
      integer = moved_integer(integer, value, 0, family_.largest_integer);
    }
    write(block, side);
  }
  void slopes(std::span<const std::byte> side, std::size_t index, std::span<Slope> slopes) const override {
    const SuperBlock block = read(side);
    for (std::size_t k = 0; k < slopes.size(); ++k) {
      if (index == 0) slopes[k] = {static_cast<float>(block.scale[k]), 0};
      if (index == 1) slopes[k] = {0, -static_cast<float>(block.min[k])};
      if (index >= 2) slopes[k] = index < 2 + layout().groups() ? Slope{block.d, 0} : Slope{0, -block.dmin};
    }
  }

 private:
  /// d, dmin, then all scales, then all minima.
  static std::vector<ScaleParameter> all_parameters(std::size_t groups) {
    std::vector<ScaleParameter> all(2, {0, groups});
    for (int i = 0; i < 2; ++i)
      for (std::size_t k = 0; k < groups; ++k) all.push_back({k, 1});
    return all;
  }
  int& integer_of(SuperBlock& block, std::size_t index) const {
    const std::size_t groups = layout().groups();
    return index < 2 + groups ? block.scale[index - 2] : block.min[index - 2 - groups];
  }

  SuperBlock read(std::span<const std::byte> side) const {
    SuperBlock block;
    block.d = read_f16(side.subspan(family_.floats_at));
    block.dmin = read_f16(side.subspan(family_.floats_at + 2));
    family_.read(side.subspan(family_.integers_at), block);
    return block;
  }
  void write(const SuperBlock& block, std::span<std::byte> side) const {
    write_f16(side.subspan(family_.floats_at), block.d);
    write_f16(side.subspan(family_.floats_at + 2), block.dmin);
    family_.write(block, side.subspan(family_.integers_at));
  }

  float nearest_integer(float value, float unit) const {
    return unit > 0 ? static_cast<float>(moved_integer(0, value / unit, 0, family_.largest_integer)) : 0.0f;
  }
  /// d and dmin such that the largest group values are representable, and the nearest integers.
  SharedScales quantize_scales(std::span<const GroupFit> fits) const {
    float largest_step = 0;
    float largest_min = 0;
    for (const GroupFit& fit : fits) {
      largest_step = std::max(largest_step, fit.step);
      largest_min = std::max(largest_min, -fit.offset);
    }
    const auto largest = static_cast<float>(family_.largest_integer);
    SharedScales scales{round_to_f16(largest_step / largest), round_to_f16(largest_min / largest), {}, {}};
    for (std::size_t k = 0; k < fits.size(); ++k) {
      scales.scale[k] = nearest_integer(fits[k].step, scales.d);
      scales.min[k] = nearest_integer(-fits[k].offset, scales.dmin);
    }
    return scales;
  }

  static SuperBlock block_of(const SharedScales& scales) {
    SuperBlock block{scales.d, scales.dmin, {}, {}};
    const auto whole = [](float value) { return static_cast<int>(value); };
    std::ranges::transform(scales.scale, block.scale.begin(), whole);
    std::ranges::transform(scales.min, block.min.begin(), whole);
    return block;
  }

  SuperBlock minmax(std::span<const float> weights) const {
    const std::size_t cols = layout().step_cols;
    std::array<GroupFit, kMostGroups> fits;
    for (std::size_t k = 0; k < layout().groups(); ++k) {
      const auto [lo, hi] = extremes_of(weights.subspan(k * cols, cols), {});
      fits[k] = {(hi - lo) / family_.largest_code, lo};
    }
    return block_of(quantize_scales(std::span(fits).first(layout().groups())));
  }

  SuperBlock search(std::span<const float> weights, std::span<const float> importance) const {
    std::array<GroupFit, kMostGroups> all;
    const std::span<GroupFit> fits = std::span(all).first(layout().groups());
    search_affine(weights, importance, affine_search(family_.largest_code, false), fits);
    const auto largest = static_cast<float>(family_.largest_integer);
    SharedScales scales = quantize_scales(fits);
    scales = refitted(scales, settle_integers(largest, fits, scales));
    const SharedFit fit = search_integers(weights, importance, family_.largest_code, largest, fits, scales);
    return block_of(refitted(scales, fit));
  }

  Family family_;
};

constexpr CodeField nibbles(std::size_t offset) { return {offset, 4, 32, 0}; }

}  // namespace

std::shared_ptr<const Grid> make_q2_k_grid() {
  return std::make_shared<AsymmetricSuperBlocks>(BlockLayout{"gguf/q2_k",
                                                             "gguf/q4_0",
                                                             kBlockCols,
                                                             16,
                                                             84,
                                                             2,
                                                             false,
                                                             {SidePart{0, 16}, SidePart{80, 4}},
                                                             {CodeField{16, 2, 32, 0}},
                                                             0},
                                                 Family{3, 15, 16, 0, &read_nibbles, &write_nibbles});
}

std::shared_ptr<const Grid> make_q4_k_grid() {
  return std::make_shared<AsymmetricSuperBlocks>(
      BlockLayout{"gguf/q4_k", "gguf/q5_0", kBlockCols, 32, 144, 4, false, {SidePart{0, 16}}, {nibbles(16)}, 0},
      Family{15, 63, 0, 4, &read_six_bits, &write_six_bits});
}

std::shared_ptr<const Grid> make_q5_k_grid() {
  return std::make_shared<AsymmetricSuperBlocks>(BlockLayout{"gguf/q5_k",
                                                             "gguf/q5_1",
                                                             kBlockCols,
                                                             32,
                                                             176,
                                                             5,
                                                             false,
                                                             {SidePart{0, 16}},
                                                             {nibbles(48), CodeField{16, 1, 32, 4}},
                                                             0},
                                                 Family{31, 63, 0, 4, &read_six_bits, &write_six_bits});
}

}  // namespace adze
