// Q2_K, Q4_K, Q5_K (gguf.md 5.7, 5.9, 5.10): super-blocks of 256 with f16 d and dmin, and an integer scale and minimum
// for each group; value = (d * sc_k) * code - (dmin * m_k), code >= 0.
//
// Fitting: each group's own best step and offset first; then d and dmin, and the integers chosen by the true weighted
// error near the rounded values; then d and dmin refitted to the codes. Every step keeps the better of the two.
#include <algorithm>
#include <array>
#include <cmath>

#include "grid/gguf/block_grid.h"
#include "grid/gguf/gguf_grids.h"
#include "linalg/scale_search.h"

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

/// The weights of a super-block with their importance.
struct Target {
  std::span<const float> weights;
  std::span<const float> importance;
  std::size_t group_cols;

  std::size_t groups() const { return kBlockCols / group_cols; }
  std::span<const float> group_weights(std::size_t k) const { return weights.subspan(k * group_cols, group_cols); }
  std::span<const float> group_importance(std::size_t k) const {
    return importance.subspan(k * group_cols, group_cols);
  }
};

/// sum h, h w and h w^2 of a group: what its error is when its step is zero.
struct Sums {
  double w = 0;
  double x = 0;
  double xx = 0;

  double error_at(float offset) const { return xx - 2.0 * offset * x + double{offset} * offset * w; }
};
using AllSums = std::array<Sums, kMostGroups>;

AllSums sums_of(const Target& target) {
  AllSums all;
  for (std::size_t k = 0; k < target.groups(); ++k) {
    float w = 0;
    float x = 0;
    float xx = 0;
    for (std::size_t i = k * target.group_cols; i < (k + 1) * target.group_cols; ++i) {
      const float hx = target.importance[i] * target.weights[i];
      w += target.importance[i];
      x += hx;
      xx += hx * target.weights[i];
    }
    all[k] = {w, x, xx};
  }
  return all;
}

/// Normal equations of d and dmin with codes and integers fixed: w ~ d (sc l) - dmin m; they move by what explains the
/// residuals best.
struct Equations {
  double aa = 0, ab = 0, bb = 0, ae = 0, be = 0;

  void add(const SuperBlock& block, std::size_t k, const CandidateMoments& m, std::size_t c, double sum_w) {
    const double scale = block.scale[k];
    const double min = -block.min[k];
    const double step = block.step(k);
    aa += scale * scale * m.ll[c];
    ab += scale * min * m.l[c];
    bb += min * min * sum_w;
    ae += scale * step * m.el[c];
    be += min * step * m.e[c];
  }
  SuperBlock refitted(SuperBlock block) const {
    const double determinant = aa * bb - ab * ab;
    const SuperBlock present = block;
    if (determinant > 1e-9 * aa * bb) {
      block.d = round_to_f16(static_cast<float>(present.d + (bb * ae - ab * be) / determinant));
      block.dmin = round_to_f16(static_cast<float>(present.dmin + (aa * be - ab * ae) / determinant));
    } else if (aa > 0) {
      block.d = round_to_f16(static_cast<float>(present.d + ae / aa));
    }
    return block.d > 0 && block.dmin >= 0 ? block : present;
  }
};

/// Candidate integers of a group: those given, and their neighbours.
class Neighbours {
 public:
  Neighbours(const SuperBlock& block, std::size_t k, const Family& family) {
    candidates_.hi.fill(family.largest_code);
    for (std::size_t c = 0; c < kCandidates; ++c) {
      constexpr std::array kScaleMoves{0, -1, 1};
      constexpr std::array kMinMoves{0, -1, 1, -2, 2};
      scale_[c] = std::clamp(block.scale[k] + kScaleMoves[c % 3], 0, family.largest_integer);
      min_[c] = std::clamp(block.min[k] + kMinMoves[c / 3 % 5], 0, family.largest_integer);
    }
    for (std::size_t c = 0; c < kCandidates; ++c) {
      step_[c] = block.d * static_cast<float>(scale_[c]);
      offset_[c] = -(block.dmin * static_cast<float>(min_[c]));
    }
    for (std::size_t c = 0; c < kCandidates; ++c) candidates_.inverse[c] = step_[c] > 0 ? 1.0f / step_[c] : 0.0f;
    for (std::size_t c = 0; c < kCandidates; ++c) candidates_.shift[c] = offset_[c] * candidates_.inverse[c];
  }

  const Candidates& candidates() const { return candidates_; }
  /// The best candidate; ties keep what is there.
  std::size_t best(const CandidateMoments& m, const Sums& sums, double& error) const {
    CandidateArray errors;
    for (std::size_t c = 0; c < kCandidates; ++c)
      errors[c] = step_[c] > 0 ? m.ee[c] * step_[c] * step_[c] : static_cast<float>(sums.error_at(offset_[c]));
    const auto least = static_cast<std::size_t>(std::ranges::min_element(errors) - errors.begin());
    error += errors[least];
    return least;
  }
  void put(std::size_t c, std::size_t k, SuperBlock& block) const {
    block.scale[k] = scale_[c];
    block.min[k] = min_[c];
  }

 private:
  std::array<int, kCandidates> scale_;
  std::array<int, kCandidates> min_;
  CandidateArray step_;
  CandidateArray offset_;
  Candidates candidates_;
};

/// Moves each group's integers to the best of the neighbours; what is left of the error, and how d and dmin may move.
struct Choice {
  double error = 0;
  Equations equations;
};
Choice choose_integers(const Target& target, const AllSums& sums, const Family& family, SuperBlock& block) {
  Choice choice;
  for (std::size_t k = 0; k < target.groups(); ++k) {
    const Neighbours neighbours(block, k, family);
    const CandidateMoments m =
        candidate_moments(target.group_weights(k), target.group_importance(k), neighbours.candidates(), true);
    const std::size_t best = neighbours.best(m, sums[k], choice.error);
    neighbours.put(best, k, block);
    if (block.step(k) > 0) choice.equations.add(block, k, m, best, sums[k].w);
  }
  return choice;
}

class AsymmetricSuperBlocks final : public BlockGrid {
 public:
  AsymmetricSuperBlocks(const BlockLayout& layout, const Family& family)
      : BlockGrid(layout, all_parameters(layout.groups())), family_(family) {}

  void fit(std::span<const float> weights, std::span<const float> importance, ScaleRule rule,
           std::span<std::byte> side) const override {
    const Target target{weights, importance, layout().step_cols};
    write(rule == ScaleRule::minmax ? minmax(target) : search(target), side);
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

  int nearest_integer(float value, float unit) const {
    return unit > 0 ? moved_integer(0, value / unit, 0, family_.largest_integer) : 0;
  }
  /// d and dmin such that the largest group values are representable, and the nearest integers.
  SuperBlock quantize_scales(std::span<const AffineFit> fits) const {
    float largest_step = 0;
    float largest_min = 0;
    for (const AffineFit& fit : fits) {
      largest_step = std::max(largest_step, fit.step);
      largest_min = std::max(largest_min, -fit.offset);
    }
    const auto largest = static_cast<float>(family_.largest_integer);
    SuperBlock block{round_to_f16(largest_step / largest), round_to_f16(largest_min / largest), {}, {}};
    for (std::size_t k = 0; k < fits.size(); ++k) {
      block.scale[k] = nearest_integer(fits[k].step, block.d);
      block.min[k] = nearest_integer(-fits[k].offset, block.dmin);
    }
    return block;
  }

  SuperBlock minmax(const Target& target) const {
    std::array<AffineFit, kMostGroups> fits;
    for (std::size_t k = 0; k < target.groups(); ++k) {
      const auto [lo, hi] = extremes_of(target.group_weights(k), {});
      fits[k] = {(hi - lo) / family_.largest_code, lo};
    }
    return quantize_scales(std::span(fits).first(target.groups()));
  }

  SuperBlock search(const Target& target) const {
    std::array<AffineFit, kMostGroups> fits;
    for (std::size_t k = 0; k < target.groups(); ++k)
      fits[k] = fit_step_and_offset(target.group_weights(k), target.group_importance(k), family_.largest_code,
                                    OffsetSign::not_positive);
    const AllSums sums = sums_of(target);
    SuperBlock best = quantize_scales(std::span(fits).first(target.groups()));
    Choice choice = choose_integers(target, sums, family_, best);
    constexpr int kRefits = 2;  // a third changes the error by less than 0.1 % on trained weights
    for (int i = 0; i < kRefits; ++i) {
      SuperBlock candidate = choice.equations.refitted(best);
      const Choice next = choose_integers(target, sums, family_, candidate);
      if (!(next.error < choice.error)) break;
      best = candidate;
      choice = next;
    }
    return best;
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
