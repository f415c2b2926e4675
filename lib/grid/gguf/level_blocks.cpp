// IQ4_NL and MXFP4 (gguf.md 5.12, 5.16): blocks of 32 with one scale, and four-bit codes that name uneven levels.
#include <algorithm>
#include <bit>
#include <cmath>

#include "grid/gguf/block_grid.h"
#include "grid/gguf/codebooks.h"
#include "grid/gguf/gguf_grids.h"
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

/// The exponent byte of MXFP4: 2^(e - 127), e = 255 is no number and is never written; nor is a step whose level 6
/// overflows.
constexpr int kBias = 127;
constexpr int kNotANumber = 255;
constexpr int kLargestExponent = 252;

float power_of(int exponent) { return exponent == kNotANumber ? NAN : std::ldexp(1.0f, exponent - kBias); }

/// The exponent of the power of two nearest to `value`; half way between two, the lower.
int nearest_exponent(float value) {
  if (!(value > 0)) return 0;
  if (std::isinf(value)) return kLargestExponent;
  const int lower = std::ilogb(value);
  const bool up = std::ldexp(value, -lower) > 1.5f;
  return std::clamp(lower + (up ? 1 : 0) + kBias, 0, kLargestExponent);
}

class PowerOfTwoBlocks final : public BlockGrid {
 public:
  PowerOfTwoBlocks()
      : BlockGrid({"gguf/mxfp4", nullptr, 32, 32, 17, 4, true, {SidePart{0, 1}}, {CodeField{1, 4, 16, 0}}, 0},
                  {{0, 1}}) {}

  std::span<const float> levels() const override { return kE2M1Levels; }
  void fit(std::span<const float> weights, std::span<const float> importance, ScaleRule rule,
           std::span<std::byte> side) const override {
    const bool searching = rule == ScaleRule::search;
    const float top = std::fabs(extremes_of(weights, searching ? importance : std::span<const float>()).top());
    // The reference: the largest magnitude gets the binade of the largest level, 4 .. 6.
    const int plain = top > 0 ? std::clamp(std::ilogb(top) - 2 + kBias, 0, kLargestExponent) : 0;
    write_exponent(side, searching && top >= kNegligible ? searched(weights, importance, plain) : plain);
  }
  void read_side(std::span<const std::byte> side, std::span<StepGroup> groups) const override {
    groups[0] = {parameter(side, 0), kNoOffset, 0.0f, kLargestCode};
  }
  float parameter(std::span<const std::byte> side, std::size_t) const override {
    return power_of(std::to_integer<int>(side[0]));
  }
  void set_parameter(std::span<std::byte> side, std::size_t, float value) const override {
    if (!std::isnan(value)) write_exponent(side, nearest_exponent(value));
  }
  void slopes(std::span<const std::byte>, std::size_t, std::span<Slope> slopes) const override { slopes[0] = {1, 0}; }

 protected:
  // Stored codes count magnitudes from zero, with the sign in bit 3.
  void pack_codes(std::span<const std::int16_t> codes, std::span<std::byte> block) const override {
    std::array<std::int16_t, 32> stored;
    std::ranges::transform(codes, stored.begin(), [](int code) { return code < 8 ? 15 - code : code - 8; });
    BlockGrid::pack_codes(stored, block);
  }
  void unpack_codes(std::span<const std::byte> block, std::span<std::int16_t> codes) const override {
    BlockGrid::unpack_codes(block, codes);
    std::ranges::transform(codes, codes.begin(), [](int stored) { return stored < 8 ? stored + 8 : 15 - stored; });
  }

 private:
  static void write_exponent(std::span<std::byte> side, int exponent) { side[0] = static_cast<std::byte>(exponent); }

  /// The best by error of the reference's exponent and its neighbours.
  static int searched(std::span<const float> weights, std::span<const float> importance, int plain) {
    constexpr std::array kMoves{0, 1, -1, -2};
    CandidateArray inverse{};
    for (std::size_t c = 0; c < kMoves.size(); ++c)
      inverse[c] = 1.0f / power_of(std::clamp(plain + kMoves[c], 0, kLargestExponent));
    const CandidateMoments m = level_moments(weights, importance, inverse, kE2M1Levels);
    int best = plain;
    double least = INFINITY;
    for (std::size_t c = 0; c < kMoves.size(); ++c) {
      const double step = 1.0 / inverse[c];
      if (const double error = m.ee[c] * step * step; error < least) {
        least = error;
        best = std::clamp(plain + kMoves[c], 0, kLargestExponent);
      }
    }
    return best;
  }
};

}  // namespace

std::shared_ptr<const Grid> make_iq4_nl_grid() { return std::make_shared<UnevenBlocks>(); }
std::shared_ptr<const Grid> make_mxfp4_grid() { return std::make_shared<PowerOfTwoBlocks>(); }

}  // namespace adze
