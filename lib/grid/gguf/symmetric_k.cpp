// Q3_K, Q6_K, IQ4_XS (gguf.md 5.8, 5.11, 5.13): super-blocks of 256 with one f16 d and a signed integer scale for each
// group; value = (d * sc_k) * code, or * level for IQ4_XS.
//
// Fitting: each group's own best step first; then d, and the integers chosen by the true weighted error near the
// rounded values, of either sign; then d refitted to the codes. Every step keeps the better of the two.
#include <algorithm>
#include <array>
#include <cmath>

#include "grid/gguf/block_grid.h"
#include "grid/gguf/codebooks.h"
#include "grid/gguf/gguf_grids.h"
#include "linalg/scale_search.h"

namespace adze {
namespace {

constexpr std::size_t kBlockCols = 256;
constexpr std::size_t kMostGroups = 16;

struct SuperBlock {
  float d = 0;
  std::array<int, kMostGroups> scale{};

  float step(std::size_t k) const { return d * static_cast<float>(scale[k]); }
};

/// Integers are least_integer .. -least_integer - 1.
struct Family {
  int least_integer;
  CodeRange codes;  ///< of affine types
  std::span<const float> levels;
  std::size_t float_at;  ///< d, among the side data
  void (*read)(std::span<const std::byte> side, SuperBlock& block);
  void (*write)(const SuperBlock& block, std::span<std::byte> side);
};

int byte_at(std::span<const std::byte> bytes, std::size_t i) { return std::to_integer<int>(bytes[i]); }

/// Q3_K: 16 scales + 32 of six bits; four low bits in bytes 0 .. 7, two high bits in bytes 8 .. 11.
void read_q3_scales(std::span<const std::byte> side, SuperBlock& block) {
  for (std::size_t k = 0; k < 16; ++k) {
    const int lo = (k < 8 ? byte_at(side, k) : byte_at(side, k - 8) >> 4) & 15;
    const int hi = (byte_at(side, 8 + k % 4) >> (2 * (k / 4))) & 3;
    block.scale[k] = (lo | hi << 4) - 32;
  }
}

void write_q3_scales(const SuperBlock& block, std::span<std::byte> side) {
  std::ranges::fill(side.first(12), std::byte{0});
  for (std::size_t k = 0; k < 16; ++k) {
    const int stored = block.scale[k] + 32;
    side[k % 8] |= static_cast<std::byte>((stored & 15) << (k < 8 ? 0 : 4));
    side[8 + k % 4] |= static_cast<std::byte>((stored >> 4) << (2 * (k / 4)));
  }
}

/// Q6_K: 16 signed bytes.
void read_q6_scales(std::span<const std::byte> side, SuperBlock& block) {
  for (std::size_t k = 0; k < 16; ++k) block.scale[k] = static_cast<std::int8_t>(byte_at(side, k));
}

void write_q6_scales(const SuperBlock& block, std::span<std::byte> side) {
  for (std::size_t k = 0; k < 16; ++k) side[k] = static_cast<std::byte>(block.scale[k] & 0xFF);
}

/// IQ4_XS: 8 scales + 32 of six bits; two high bits of each in bytes 2 and 3, four low bits in bytes 4 .. 7.
void read_iq4_scales(std::span<const std::byte> side, SuperBlock& block) {
  for (std::size_t k = 0; k < 8; ++k) {
    const int lo = (byte_at(side, 4 + k / 2) >> (4 * (k % 2))) & 15;
    const int hi = (byte_at(side, 2 + k / 4) >> (2 * (k % 4))) & 3;
    block.scale[k] = (lo | hi << 4) - 32;
  }
}

void write_iq4_scales(const SuperBlock& block, std::span<std::byte> side) {
  std::ranges::fill(side.subspan(2, 6), std::byte{0});
  for (std::size_t k = 0; k < 8; ++k) {
    const int stored = block.scale[k] + 32;
    side[4 + k / 2] |= static_cast<std::byte>((stored & 15) << (4 * (k % 2)));
    side[2 + k / 4] |= static_cast<std::byte>((stored >> 4) << (2 * (k % 4)));
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

double zero_error(const Target& target, std::size_t k) {
  double sum = 0;
  for (std::size_t i = k * target.group_cols; i < (k + 1) * target.group_cols; ++i)
    sum += target.importance[i] * double{target.weights[i]} * target.weights[i];
  return sum;
}

/// Sums for d with codes and integers fixed: w ~ d (sc l).
struct Choice {
  double error = 0;
  double aa = 0;
  double ae = 0;

  SuperBlock refitted(SuperBlock block) const {
    if (!(aa > 0)) return block;
    const float d = round_to_f16(static_cast<float>(block.d + ae / aa));
    if (d != 0) block.d = d;
    return block;
  }
};

class SymmetricSuperBlocks final : public BlockGrid {
 public:
  SymmetricSuperBlocks(const BlockLayout& layout, const Family& family)
      : BlockGrid(layout, all_parameters(layout.groups())), family_(family) {}

  std::span<const float> levels() const override { return family_.levels; }
  void fit(std::span<const float> weights, std::span<const float> importance, ScaleRule rule,
           std::span<std::byte> side) const override {
    const Target target{weights, importance, layout().step_cols};
    write(rule == ScaleRule::minmax ? minmax(target) : search(target), side);
  }
  void read_side(std::span<const std::byte> side, std::span<StepGroup> groups) const override {
    const SuperBlock block = read(side);
    for (std::size_t k = 0; k < groups.size(); ++k)
      groups[k] = {block.step(k), kNoOffset, family_.codes.lo, family_.codes.hi};
  }
  float parameter(std::span<const std::byte> side, std::size_t index) const override {
    const SuperBlock block = read(side);
    return index == 0 ? block.d : static_cast<float>(block.scale[index - 1]);
  }
  void set_parameter(std::span<std::byte> side, std::size_t index, float value) const override {
    SuperBlock block = read(side);
    if (index == 0) {
      block.d = moved_f16(block.d, value);
    } else {
      block.scale[index - 1] = integer(block.scale[index - 1], value);
    }
    write(block, side);
  }
  void slopes(std::span<const std::byte> side, std::size_t index, std::span<Slope> slopes) const override {
    const SuperBlock block = read(side);
    for (std::size_t k = 0; k < slopes.size(); ++k)
      slopes[k] = {index == 0 ? static_cast<float>(block.scale[k]) : block.d, 0};
  }

 private:
  /// d, then all scales.
  static std::vector<ScaleParameter> all_parameters(std::size_t groups) {
    std::vector<ScaleParameter> all{{0, groups}};
    for (std::size_t k = 0; k < groups; ++k) all.push_back({k, 1});
    return all;
  }

  SuperBlock read(std::span<const std::byte> side) const {
    SuperBlock block{read_f16(side.subspan(family_.float_at)), {}};
    family_.read(side, block);
    return block;
  }
  void write(const SuperBlock& block, std::span<std::byte> side) const {
    write_f16(side.subspan(family_.float_at), block.d);
    family_.write(block, side);
  }

  int integer(int current, float value) const {
    return moved_integer(current, value, family_.least_integer, -family_.least_integer - 1);
  }
  /// The step whose sign and size is largest gets the least integer: that side is longer by one.
  SuperBlock quantize_scales(std::span<const float> steps) const {
    float top = 0;
    for (const float step : steps)
      if (std::fabs(step) > std::fabs(top)) top = step;
    SuperBlock block{round_to_f16(top / static_cast<float>(family_.least_integer)), {}};
    if (block.d == 0) return {};
    for (std::size_t k = 0; k < steps.size(); ++k) block.scale[k] = integer(0, steps[k] / block.d);
    return block;
  }

  float plain_step(std::span<const float> weights) const {
    const float top = extremes_of(weights, {}).top();
    return top / (family_.levels.empty() ? family_.codes.lo : family_.levels.front());
  }
  SuperBlock minmax(const Target& target) const {
    std::array<float, kMostGroups> steps{};
    for (std::size_t k = 0; k < target.groups(); ++k) steps[k] = plain_step(target.group_weights(k));
    return quantize_scales(std::span(steps).first(target.groups()));
  }

  float best_step(std::span<const float> weights, std::span<const float> importance) const {
    return family_.levels.empty() ? fit_scale(weights, importance, family_.codes)
                                  : fit_level_scale(weights, importance, family_.levels);
  }
  CandidateMoments moments(const Target& target, std::size_t k, const CandidateArray& inverse) const {
    if (!family_.levels.empty())
      return level_moments(target.group_weights(k), target.group_importance(k), inverse, family_.levels);
    Candidates candidates;
    candidates.inverse = inverse;
    candidates.lo.fill(family_.codes.lo);
    candidates.hi.fill(family_.codes.hi);
    return candidate_moments(target.group_weights(k), target.group_importance(k), candidates, false);
  }

  /// Moves each group's integer to the best of the neighbours of the one given and of its negative; ties keep it.
  Choice choose_integers(const Target& target, SuperBlock& block) const {
    Choice choice;
    for (std::size_t k = 0; k < target.groups(); ++k) {
      std::array<int, kCandidates> integers;
      std::array<float, kCandidates> steps;
      CandidateArray inverse;
      for (std::size_t c = 0; c < kCandidates; ++c) {
        constexpr std::array kMoves{0, -1, 1, -2, 2, -3, 3, -4};
        const int centre = c < kMoves.size() ? block.scale[k] : -block.scale[k];
        integers[c] = integer(0, static_cast<float>(centre + kMoves[c % kMoves.size()]));
        steps[c] = block.d * static_cast<float>(integers[c]);
        inverse[c] = steps[c] != 0 ? 1.0f / steps[c] : 0.0f;
      }
      const CandidateMoments m = moments(target, k, inverse);
      std::size_t best = 0;
      double least = INFINITY;
      for (std::size_t c = 0; c < kCandidates; ++c) {
        const double error = steps[c] != 0 ? double{m.ee[c]} * steps[c] * steps[c] : zero_error(target, k);
        if (!(error < least)) continue;
        least = error;
        best = c;
      }
      block.scale[k] = integers[best];
      choice.error += least;
      choice.aa += double{m.ll[best]} * integers[best] * integers[best];
      choice.ae += double{m.el[best]} * steps[best] * integers[best];
    }
    return choice;
  }

  SuperBlock search(const Target& target) const {
    std::array<float, kMostGroups> steps{};
    for (std::size_t k = 0; k < target.groups(); ++k)
      steps[k] = best_step(target.group_weights(k), target.group_importance(k));
    SuperBlock best = quantize_scales(std::span(steps).first(target.groups()));
    if (best.d == 0) return best;
    Choice choice = choose_integers(target, best);
    constexpr int kRefits = 2;
    for (int i = 0; i < kRefits; ++i) {
      SuperBlock candidate = choice.refitted(best);
      const Choice next = choose_integers(target, candidate);
      if (!(next.error < choice.error)) break;
      best = candidate;
      choice = next;
    }
    return best;
  }

  Family family_;
};

}  // namespace

std::shared_ptr<const Grid> make_q3_k_grid() {
  return std::make_shared<SymmetricSuperBlocks>(BlockLayout{"gguf/q3_k",
                                                            "gguf/q4_0",
                                                            kBlockCols,
                                                            16,
                                                            110,
                                                            3,
                                                            true,
                                                            {SidePart{96, 14}},
                                                            {CodeField{32, 2, 32, 0}, CodeField{0, 1, 32, 2}},
                                                            4},
                                                Family{-32, {-4, 3, true}, {}, 12, &read_q3_scales, &write_q3_scales});
}

std::shared_ptr<const Grid> make_q6_k_grid() {
  return std::make_shared<SymmetricSuperBlocks>(
      BlockLayout{"gguf/q6_k",
                  "gguf/q8_0",
                  kBlockCols,
                  16,
                  210,
                  6,
                  true,
                  {SidePart{192, 18}},
                  {CodeField{0, 4, 64, 0}, CodeField{128, 2, 32, 4}},
                  32},
      Family{-128, {-32, 31, true}, {}, 16, &read_q6_scales, &write_q6_scales});
}

std::shared_ptr<const Grid> make_iq4_xs_grid() {
  return std::make_shared<SymmetricSuperBlocks>(
      BlockLayout{
          "gguf/iq4_xs", "gguf/iq4_nl", kBlockCols, 32, 136, 4, false, {SidePart{0, 8}}, {CodeField{8, 4, 16, 0}}, 0},
      Family{-32, {0, 15, true}, kUnevenLevels, 0, &read_iq4_scales, &write_iq4_scales});
}

}  // namespace adze
