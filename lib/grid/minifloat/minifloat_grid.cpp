#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <vector>

#include <fmt/format.h>

#include "base/error.h"
#include "grid/fit.h"
#include "grid/minifloat/minifloat.h"
#include "linalg/rounding.h"
#include "linalg/scale_search.h"

namespace adze {
namespace {

/// x + -0.0f is x even where x is a negative zero, as runtimes decode it.
constexpr float kNoOffset = -0.0f;
constexpr float kSmallestF32Step = 0x1p-140f;

/// What grids of small floats share; they differ in what a scale is.
class MinifloatGrid : public Grid {
 public:
  MinifloatGrid(std::string name, const MinifloatSpec& spec) : name_(std::move(name)), spec_(spec) {}

  std::string name() const final { return name_; }
  std::size_t unit_cols(std::size_t cols) const final { return spec_.group_cols(cols); }
  std::size_t step_cols(std::size_t cols) const final { return unit_cols(cols); }
  std::size_t side_bytes() const final { return spec_.scale_bytes(); }
  int code_bits() const final { return spec_.bits; }
  bool holds_zero() const final { return true; }
  std::span<const float> levels() const final { return minifloat_levels(spec_.bits); }

  std::optional<std::string> cannot_hold(std::size_t cols) const final {
    if (spec_.group == 0 || (cols > 0 && cols % spec_.group == 0)) return std::nullopt;
    return fmt::format("{}: rows of {} columns do not divide into groups of {}; fp8 has a scale a row", name_, cols,
                       spec_.group);
  }
  std::uint64_t row_bytes(std::size_t cols) const final { return side_of_row(cols) + code_bytes(cols); }

  void read_side(std::span<const std::byte> side, std::span<StepGroup> groups) const final {
    groups[0] = {step_of(side), kNoOffset, 0.0f, static_cast<float>(levels().size() - 1)};
  }

  std::span<const ScaleParameter> parameters(std::size_t) const final {
    static constexpr std::array<ScaleParameter, 1> kStep{};
    return kStep;
  }
  float parameter(std::span<const std::byte> side, std::size_t) const final { return step_of(side); }
  void set_parameter(std::span<std::byte> side, std::size_t, float value) const final {
    if (!std::isnan(value)) store_step(side, value, step_of(side) > 0);
  }
  void slopes(std::span<const std::byte>, std::size_t, std::span<Slope> slopes) const final { slopes[0] = {1, 0}; }

  void pack_row(std::span<const std::int16_t> codes, std::span<const std::byte> side,
                std::span<std::byte> out) const final {
    std::ranges::copy(side.first(side_of_row(codes.size())), out.begin());
    const std::span<std::byte> packed = out.subspan(side_of_row(codes.size()));
    if (spec_.bits == 8) {
      for (std::size_t i = 0; i < codes.size(); ++i) packed[i] = pattern(codes[i]);
      return;
    }
    for (std::size_t i = 0; i < packed.size(); ++i)
      packed[i] = pattern(codes[2 * i]) | (pattern(codes[2 * i + 1]) << 4);
  }

  void unpack_row(std::span<const std::byte> in, std::span<std::int16_t> codes, std::span<std::byte> side) const final {
    std::ranges::copy(in.first(side_of_row(codes.size())), side.begin());
    const std::span<const std::byte> packed = in.subspan(side_of_row(codes.size()));
    for (std::size_t i = 0; i < codes.size(); ++i) {
      const auto byte = std::to_integer<unsigned>(spec_.bits == 8 ? packed[i] : packed[i / 2]);
      const unsigned bits = spec_.bits == 8 ? byte : byte >> (4 * (i % 2)) & 15;
      codes[i] = static_cast<std::int16_t>(minifloat_index(spec_.bits, static_cast<std::uint8_t>(bits)));
    }
  }

 protected:
  /// Stored bytes to the step, and the nearest step that they hold; `positive`: not zero.
  virtual float step_of(std::span<const std::byte> side) const = 0;
  virtual void store_step(std::span<std::byte> side, float step, bool positive) const = 0;

  const MinifloatSpec& spec() const { return spec_; }
  float largest() const { return levels().back(); }

  /// The weighted squared error of weights rounded with a step.
  double error_at(std::span<const float> weights, std::span<const float> importance, float step) const {
    std::vector<std::int16_t> codes(weights.size());
    round_to_levels(weights, step, kNoOffset, levels(), codes);
    double sum = 0;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      const double error = double{weights[i]} - double{step} * levels()[static_cast<std::size_t>(codes[i])];
      sum += importance[i] * error * error;
    }
    return sum;
  }

  /// The step with the least error, the first of equals.
  float best_of(std::span<const float> steps, std::span<const float> weights, std::span<const float> importance) const {
    double least = INFINITY;
    float best = steps.front();
    for (const float step : steps)
      if (const double error = error_at(weights, importance, step); error < least) {
        least = error;
        best = step;
      }
    return best;
  }

 private:
  std::byte pattern(std::int16_t code) const { return static_cast<std::byte>(minifloat_pattern(spec_.bits, code)); }
  std::size_t side_of_row(std::size_t cols) const { return units(cols) * spec_.scale_bytes(); }
  std::size_t code_bytes(std::size_t cols) const { return spec_.bits == 8 ? cols : (cols + 1) / 2; }

  std::string name_;
  MinifloatSpec spec_;
};

float magnitude_of(std::span<const float> weights, std::span<const float> importance, ScaleRule rule) {
  const bool searching = rule == ScaleRule::search;
  return std::fabs(extremes_of(weights, searching ? importance : std::span<const float>()).top());
}

/// Steps in f32. The largest magnitude becomes 448; as elements have as many digits in every binade, larger steps clip
/// nothing and lose nothing, and where digits fall best is searched within one binade.
class Fp8Grid final : public MinifloatGrid {
 public:
  using MinifloatGrid::MinifloatGrid;

  void fit(std::span<const float> weights, std::span<const float> importance, ScaleRule rule,
           std::span<std::byte> side) const override {
    const float top = magnitude_of(weights, importance, rule);
    const float plain = top < kNegligible ? 0.0f : std::max(top / largest(), kSmallestF32Step);
    if (rule == ScaleRule::minmax || plain == 0) return write(side, plain);
    std::array<float, kPerBinade> steps;
    for (std::size_t c = 0; c < kPerBinade; ++c)
      steps[c] = plain * (1.0f + static_cast<float>(c) / static_cast<float>(kPerBinade));
    write(side, best_of(steps, weights, importance));
  }

 protected:
  float step_of(std::span<const std::byte> side) const override {
    float step = 0;
    std::memcpy(&step, side.data(), sizeof step);
    return step;
  }
  void store_step(std::span<std::byte> side, float step, bool positive) const override {
    constexpr float kLargestStep = 0x1p118f;  // 448 of it is a float
    write(side, std::clamp(step, positive ? kSmallestF32Step : 0.0f, kLargestStep));
  }

 private:
  static constexpr std::size_t kPerBinade = 16;
  static void write(std::span<std::byte> side, float step) { std::memcpy(side.data(), &step, sizeof step); }
};

/// Powers of two. The reference puts the largest magnitude in the last binade, or the one before where it would round
/// beyond 1.75 of it.
class Mxfp8Grid final : public MinifloatGrid {
 public:
  using MinifloatGrid::MinifloatGrid;

  void fit(std::span<const float> weights, std::span<const float> importance, ScaleRule rule,
           std::span<std::byte> side) const override {
    const float top = magnitude_of(weights, importance, rule);
    if (top < kNegligible) return store_step(side, 0, false);
    const int binade = std::ilogb(top);
    const float plain = std::ldexp(1.0f, binade + (std::ldexp(top, -binade) >= 1.75f ? 1 : 0) - std::ilogb(largest()));
    const std::array<float, 3> steps{plain, 0.5f * plain, 2.0f * plain};
    store_step(side, rule == ScaleRule::search ? best_of(steps, weights, importance) : plain, true);
  }

 protected:
  float step_of(std::span<const std::byte> side) const override {
    return e8m0_value(std::to_integer<std::uint8_t>(side[0]));
  }
  void store_step(std::span<std::byte> side, float step, bool) const override {
    side[0] = static_cast<std::byte>(nearest_e8m0(step, largest()));
  }
};

/// E4M3 over the divisor. The search tries the sixteen stored scales that put the largest magnitude from above the
/// largest element to below the one before it.
class Nvfp4Grid final : public MinifloatGrid {
 public:
  using MinifloatGrid::MinifloatGrid;

  std::optional<float> largest_value() const override { return value_at(kMost) * largest(); }

  void fit(std::span<const float> weights, std::span<const float> importance, ScaleRule rule,
           std::span<std::byte> side) const override {
    const float top = magnitude_of(weights, importance, rule);
    if (top < kNegligible) return store_step(side, 0, false);
    store_step(side, top / largest(), true);
    if (rule == ScaleRule::minmax) return;
    constexpr int kBelow = 6;
    const int plain = std::to_integer<int>(side[0]);
    CandidateArray inverse{};
    for (int c = 0; c < static_cast<int>(kCandidates); ++c)
      inverse[static_cast<std::size_t>(c)] = 1.0f / value_at(std::clamp(plain + c - kBelow, 1, kMost));
    const CandidateMoments m = level_moments(weights, importance, inverse, levels());
    double least = INFINITY;
    for (int c = 0; c < static_cast<int>(kCandidates); ++c) {
      const int code = std::clamp(plain + c - kBelow, 1, kMost);
      const double step = value_at(code);
      if (const double error = m.ee[static_cast<std::size_t>(c)] * step * step; error < least) {
        least = error;
        side[0] = static_cast<std::byte>(code);
      }
    }
  }

 protected:
  float step_of(std::span<const std::byte> side) const override { return value_at(std::to_integer<int>(side[0])); }
  void store_step(std::span<std::byte> side, float step, bool positive) const override {
    const int code = nearest_e4m3(std::min(step, 1e30f) * spec().divisor);
    side[0] = static_cast<std::byte>(std::max(code, positive ? 1 : 0));
  }

 private:
  static constexpr int kMost = 0x7E;
  float value_at(int code) const { return e4m3_value(static_cast<std::uint8_t>(code)) / spec().divisor; }
};

}  // namespace

std::shared_ptr<const Grid> make_minifloat_grid(const MinifloatSpec& spec) {
  const MinifloatSpec mxfp8{8, MinifloatScale::e8m0, 32, 1};
  const MinifloatSpec nvfp4{4, MinifloatScale::e4m3, 16, spec.divisor};
  if (spec == mxfp8) return std::make_shared<Mxfp8Grid>("mxfp8", spec);
  if (spec == nvfp4 && spec.divisor > 0 && std::isfinite(spec.divisor))
    return std::make_shared<Nvfp4Grid>(
        spec.divisor == kNvfp4Divisor ? "nvfp4" : fmt::format("nvfp4 / {}", spec.divisor), spec);
  constexpr std::size_t kLargestGroup = 65536;
  if (spec.bits != 8 || spec.scale != MinifloatScale::f32 || spec.divisor != 1)
    fail(ErrorKind::bad_recipe, "grids of small floats are fp8, mxfp8 and nvfp4");
  if (spec.group == 1 || spec.group > kLargestGroup)
    fail(ErrorKind::bad_recipe, "group: {} is not between 2 and {}", spec.group, kLargestGroup);
  return std::make_shared<Fp8Grid>(spec.group == 0 ? "fp8" : fmt::format("fp8 g{}", spec.group), spec);
}

}  // namespace adze
