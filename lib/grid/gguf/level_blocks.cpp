// IQ4_NL and MXFP4 (gguf.md 5.12, 5.16): blocks of 32 with one scale, and four-bit codes that name uneven levels.
#include <algorithm>
#include <bit>
#include <cmath>

#include "grid/gguf/block_grid.h"
#include "grid/gguf/codebooks.h"
#include "grid/gguf/gguf_grids.h"
#include "grid/minifloat/minifloat.h"
#include "linalg/scale_search.h"

namespace adze {
namespace {

constexpr float kLargestCode = 15;

class UnevenBlocks final : public BlockGrid {
 public:
  UnevenBlocks()
      : BlockGrid({"gguf/iq4_nl", nullptr, 32, 32, 18, 4, false, {SidePart{0, 2}}, {CodeField{2, 4, 16, 0}}, 0},
                  {{0, 1}}) {}

  std::span<const float> levels() const override { return kUnevenLevels; }
  void fit(std::span<const float> weights, std::span<const float> importance, ScaleRule rule,
           std::span<std::byte> side) const override {
    const float plain = round_to_f16(extremes_of(weights, {}).top() / kUnevenLevels.front());
    write_f16(side, plain);
    if (rule == ScaleRule::minmax || plain == 0) return;
    const float searched = round_to_f16(fit_level_scale(weights, importance, kUnevenLevels));
    if (searched == 0) return;
    CandidateArray inverse{};
    inverse[0] = 1.0f / plain;
    inverse[1] = 1.0f / searched;
    const CandidateMoments m = level_moments(weights, importance, inverse, kUnevenLevels);
    if (m.ee[1] * searched * searched < m.ee[0] * plain * plain) write_f16(side, searched);
  }
  void read_side(std::span<const std::byte> side, std::span<StepGroup> groups) const override {
    groups[0] = {read_f16(side), kNoOffset, 0.0f, kLargestCode};
  }
  float parameter(std::span<const std::byte> side, std::size_t) const override { return read_f16(side); }
  void set_parameter(std::span<std::byte> side, std::size_t, float value) const override {
    write_f16(side, moved_f16(read_f16(side), value));
  }
  void slopes(std::span<const std::byte>, std::size_t, std::span<Slope> slopes) const override { slopes[0] = {1, 0}; }
};

class PowerOfTwoBlocks final : public BlockGrid {
 public:
  PowerOfTwoBlocks()
      : BlockGrid({"gguf/mxfp4", nullptr, 32, 32, 17, 4, true, {SidePart{0, 1}}, {CodeField{1, 4, 16, 0}}, 0},
                  {{0, 1}}) {}

  std::span<const float> levels() const override { return minifloat_levels(kBits); }
  void fit(std::span<const float> weights, std::span<const float> importance, ScaleRule rule,
           std::span<std::byte> side) const override {
    const bool searching = rule == ScaleRule::search;
    const float top = std::fabs(extremes_of(weights, searching ? importance : std::span<const float>()).top());
    // The reference: the largest magnitude gets the binade of the largest level, 4 .. 6.
    const float plain = top > 0 ? std::ldexp(1.0f, std::ilogb(top) - 2) : 0.0f;
    store(side, searching && top >= kNegligible ? searched(weights, importance, plain) : plain);
  }
  void read_side(std::span<const std::byte> side, std::span<StepGroup> groups) const override {
    groups[0] = {parameter(side, 0), kNoOffset, 0.0f, kLargestCode};
  }
  float parameter(std::span<const std::byte> side, std::size_t) const override {
    return e8m0_value(std::to_integer<std::uint8_t>(side[0]));
  }
  void set_parameter(std::span<std::byte> side, std::size_t, float value) const override {
    if (!std::isnan(value)) store(side, value);
  }
  void slopes(std::span<const std::byte>, std::size_t, std::span<Slope> slopes) const override { slopes[0] = {1, 0}; }

 protected:
  void pack_codes(std::span<const std::int16_t> codes, std::span<std::byte> block) const override {
    std::array<std::int16_t, 32> patterns;
    std::ranges::transform(codes, patterns.begin(), [](int code) { return minifloat_pattern(kBits, code); });
    BlockGrid::pack_codes(patterns, block);
  }
  void unpack_codes(std::span<const std::byte> block, std::span<std::int16_t> codes) const override {
    BlockGrid::unpack_codes(block, codes);
    std::ranges::transform(codes, codes.begin(), [](int pattern) {
      return static_cast<std::int16_t>(minifloat_index(kBits, static_cast<std::uint8_t>(pattern)));
    });
  }

 private:
  static constexpr int kBits = 4;
  static constexpr float kLargestLevel = 6;

  static void store(std::span<std::byte> side, float step) {
    side[0] = static_cast<std::byte>(nearest_e8m0(step, kLargestLevel));
  }

  /// The best by error of the reference's step and its neighbours.
  static float searched(std::span<const float> weights, std::span<const float> importance, float plain) {
    constexpr std::array kFactors{1.0f, 2.0f, 0.5f, 0.25f};
    std::array<float, kFactors.size()> steps;
    CandidateArray inverse{};
    for (std::size_t c = 0; c < kFactors.size(); ++c) {
      steps[c] = e8m0_value(nearest_e8m0(plain * kFactors[c], kLargestLevel));
      inverse[c] = 1.0f / steps[c];
    }
    const CandidateMoments m = level_moments(weights, importance, inverse, minifloat_levels(kBits));
    double least = INFINITY;
    float best = plain;
    for (std::size_t c = 0; c < kFactors.size(); ++c)
      if (const double error = m.ee[c] * double{steps[c]} * steps[c]; error < least) {
        least = error;
        best = steps[c];
      }
    return best;
  }
};

}  // namespace

std::shared_ptr<const Grid> make_iq4_nl_grid() { return std::make_shared<UnevenBlocks>(); }
std::shared_ptr<const Grid> make_mxfp4_grid() { return std::make_shared<PowerOfTwoBlocks>(); }

}  // namespace adze
