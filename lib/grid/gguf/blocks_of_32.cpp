// Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 (gguf.md 5.2 - 5.6): blocks of 32 with one f16 scale d, and an f16 offset m in Q4_1 and
// Q5_1; value = d * code (+ m).
#include <cmath>

#include "grid/gguf/block_grid.h"
#include "grid/gguf/gguf_grids.h"
#include "linalg/scale_search.h"

namespace adze {
namespace {

constexpr CodeField nibbles(std::size_t offset) { return {offset, 4, 16, 0}; }
constexpr CodeField fifth_bits(std::size_t offset) { return {offset, 1, 1, 4}; }

class ScaledBlocks : public BlockGrid {
 public:
  ScaledBlocks(const BlockLayout& layout, CodeRange codes) : BlockGrid(layout, {{0, 1}}), codes_(codes) {}

  void fit(std::span<const float> weights, std::span<const float> importance, ScaleRule rule,
           std::span<std::byte> side) const override {
    // The extreme gets the longer side's last code (-8 of -8 .. 7); the sign of d follows.
    const bool searches = rule == ScaleRule::search;  // then weights of no importance have no say
    const float top = extremes_of(weights, searches ? importance : std::span<const float>()).top();
    const float plain = round_to_f16(codes_.either_sign ? top / codes_.lo : std::fabs(top) / codes_.hi);
    write_f16(side, searches ? fit_stored_scale(weights, importance, codes_, DType::f16, plain) : plain);
  }
  void read_side(std::span<const std::byte> side, std::span<StepGroup> groups) const override {
    groups[0] = {read_f16(side), kNoOffset, codes_.lo, codes_.hi};
  }
  float parameter(std::span<const std::byte> side, std::size_t) const override { return read_f16(side); }
  void set_parameter(std::span<std::byte> side, std::size_t, float value) const override {
    const float current = read_f16(side);
    write_f16(side, codes_.either_sign ? moved_f16(current, value) : moved_positive_f16(current, value));
  }
  void slopes(std::span<const std::byte>, std::size_t, std::span<Slope> slopes) const override { slopes[0] = {1, 0}; }

 private:
  CodeRange codes_;
};

/// Q8_0's codes are signed bytes. -128 decodes, but the reference never writes it, neither do we.
class SignedBytes final : public ScaledBlocks {
 public:
  using ScaledBlocks::ScaledBlocks;

 protected:
  void unpack_codes(std::span<const std::byte> block, std::span<std::int16_t> codes) const override {
    for (std::size_t i = 0; i < codes.size(); ++i)
      codes[i] = static_cast<std::int8_t>(std::to_integer<unsigned char>(block[2 + i]));
  }
};

class OffsetBlocks final : public BlockGrid {
 public:
  OffsetBlocks(const BlockLayout& layout, float largest_code)
      : BlockGrid(layout, {{0, 1}, {0, 1}}), largest_code_(largest_code) {}

  void fit(std::span<const float> weights, std::span<const float> importance, ScaleRule rule,
           std::span<std::byte> side) const override {
    const auto [low, high] = std::ranges::minmax(weights);
    Fit best = stored((high - low) / largest_code_, low);
    if (rule == ScaleRule::search) best = better(weights, importance, best, searched(weights, importance));
    write_f16(side, best.step);
    write_f16(side.subspan(2), best.offset);
  }
  void read_side(std::span<const std::byte> side, std::span<StepGroup> groups) const override {
    groups[0] = {read_f16(side), read_f16(side.subspan(2)), 0.0f, largest_code_};
  }
  float parameter(std::span<const std::byte> side, std::size_t index) const override {
    return read_f16(side.subspan(2 * index));
  }
  void set_parameter(std::span<std::byte> side, std::size_t index, float value) const override {
    const float current = parameter(side, index);
    write_f16(side.subspan(2 * index), index == 0 ? moved_positive_f16(current, value) : moved_f16(current, value));
  }
  void slopes(std::span<const std::byte>, std::size_t index, std::span<Slope> slopes) const override {
    slopes[0] = index == 0 ? Slope{1, 0} : Slope{0, 1};
  }

 private:
  struct Fit {
    float step = 0;
    float offset = 0;
  };
  static Fit stored(float step, float offset) { return {round_to_f16(step), round_to_f16(offset)}; }

  Fit searched(std::span<const float> weights, std::span<const float> importance) const {
    GroupFit fit;
    search_affine(weights, importance, affine_search(largest_code_, true), {&fit, 1});
    return stored(fit.step, fit.offset);
  }
  Fit better(std::span<const float> weights, std::span<const float> importance, Fit first, Fit second) const {
    if (!(second.step > 0)) return first;
    if (!(first.step > 0)) return second;
    Candidates both;
    both.hi.fill(largest_code_);
    both.inverse[0] = 1.0f / first.step;
    both.inverse[1] = 1.0f / second.step;
    both.shift[0] = first.offset * both.inverse[0];
    both.shift[1] = second.offset * both.inverse[1];
    const CandidateMoments m = candidate_moments(weights, importance, both, true);
    return m.ee[1] * second.step * second.step < m.ee[0] * first.step * first.step ? second : first;
  }

  float largest_code_;
};

}  // namespace

std::shared_ptr<const Grid> make_q4_0_grid() {
  return std::make_shared<ScaledBlocks>(
      BlockLayout{"gguf/q4_0", nullptr, 32, 32, 18, 4, true, {SidePart{0, 2}}, {nibbles(2)}, 8},
      CodeRange{-8, 7, true});
}

std::shared_ptr<const Grid> make_q5_0_grid() {
  return std::make_shared<ScaledBlocks>(
      BlockLayout{"gguf/q5_0", nullptr, 32, 32, 22, 5, true, {SidePart{0, 2}}, {nibbles(6), fifth_bits(2)}, 16},
      CodeRange{-16, 15, true});
}

std::shared_ptr<const Grid> make_q8_0_grid() {
  return std::make_shared<SignedBytes>(
      BlockLayout{"gguf/q8_0", nullptr, 32, 32, 34, 8, true, {SidePart{0, 2}}, {CodeField{2, 8, 1, 0}}, 0},
      CodeRange{-127, 127, false});
}

std::shared_ptr<const Grid> make_q4_1_grid() {
  return std::make_shared<OffsetBlocks>(
      BlockLayout{"gguf/q4_1", nullptr, 32, 32, 20, 4, false, {SidePart{0, 4}}, {nibbles(4)}, 0}, 15.0f);
}

std::shared_ptr<const Grid> make_q5_1_grid() {
  return std::make_shared<OffsetBlocks>(
      BlockLayout{"gguf/q5_1", nullptr, 32, 32, 24, 5, false, {SidePart{0, 4}}, {nibbles(8), fifth_bits(4)}, 0}, 31.0f);
}

}  // namespace adze
