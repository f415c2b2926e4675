#include "grid/integer/integer.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include <fmt/format.h>

#include "base/error.h"
#include "grid/bits.h"
#include "grid/fit.h"
#include "linalg/convert.h"
#include "linalg/rounding.h"
#include "linalg/scale_search.h"

namespace adze {
namespace {

/// The smallest positive number of the dtype.
float smallest_scale(DType dtype) {
  if (dtype == DType::f16) return 0x1p-24f;
  return dtype == DType::bf16 ? 0x1p-133f : 0x1p-149f;
}

class IntegerGrid final : public Grid {
 public:
  explicit IntegerGrid(const IntegerGridSpec& spec) : spec_(spec) {}

  const IntegerGridSpec& spec() const { return spec_; }

  std::string name() const override {
    const std::string scope = spec_.scope == ScaleScope::group     ? fmt::format("g{}", spec_.group)
                              : spec_.scope == ScaleScope::channel ? "channel"
                                                                   : "tensor";
    const std::string scales = spec_.scale_dtype == DType::f16 ? "" : fmt::format(" {}", name_of(spec_.scale_dtype));
    return fmt::format("int{} {} {}{}", spec_.bits, scope, spec_.symmetric ? "sym" : "asym", scales);
  }
  std::size_t unit_cols(std::size_t cols) const override {
    return spec_.scope == ScaleScope::group ? spec_.group : cols;
  }
  std::size_t step_cols(std::size_t cols) const override { return unit_cols(cols); }
  std::size_t side_bytes() const override { return scale_bytes() + (spec_.symmetric ? 0 : 1); }
  bool one_side_per_tensor() const override { return spec_.scope == ScaleScope::tensor; }
  int code_bits() const override { return spec_.bits; }
  bool holds_zero() const override { return true; }

  std::optional<std::string> cannot_hold(std::size_t cols) const override {
    if (spec_.scope != ScaleScope::group || (cols > 0 && cols % spec_.group == 0)) return std::nullopt;
    std::size_t nearest = std::bit_floor(spec_.group);
    while (nearest > 1 && cols % nearest != 0) nearest /= 2;
    return fmt::format("{}: rows of {} columns do not divide into groups of {}; {}", name(), cols, spec_.group,
                       nearest > 1 ? fmt::format("group: {} does", nearest) : "scope: channel does");
  }

  std::uint64_t row_bytes(std::size_t cols) const override {
    return row_side_bytes(cols) + packed_bytes(cols, spec_.bits);
  }

  void fit(std::span<const float> weights, std::span<const float> importance, ScaleRule rule,
           std::span<std::byte> side) const override {
    if (spec_.symmetric) {
      write_scale(side, rule == ScaleRule::minmax ? minmax_scale(weights, {}) : searched_scale(weights, importance));
      return;
    }
    const auto [scale, zero] = fit_asymmetric(weights, importance, rule);
    write_scale(side, scale);
    side[scale_bytes()] = static_cast<std::byte>(zero);
  }

  void read_side(std::span<const std::byte> side, std::span<StepGroup> groups) const override {
    const float scale = read_scale(side);
    if (spec_.symmetric) {
      groups[0] = {scale, 0.0f, -half(), half() - 1.0f};
    } else {
      groups[0] = {scale, -(scale * static_cast<float>(zero_of(side, 0))), 0.0f, count_of_codes() - 1.0f};
    }
  }

  std::span<const ScaleParameter> parameters(std::size_t) const override {
    static constexpr std::array<ScaleParameter, 2> kScaleAndZero{};
    if (one_side_per_tensor()) return {};
    return std::span(kScaleAndZero).first(spec_.symmetric ? 1 : 2);
  }
  float parameter(std::span<const std::byte> side, std::size_t index) const override {
    return index == 0 ? read_scale(side) : static_cast<float>(zero_of(side, 0));
  }
  void set_parameter(std::span<std::byte> side, std::size_t index, float value) const override {
    if (std::isnan(value)) return;
    if (index == 1) {
      side[scale_bytes()] = static_cast<std::byte>(round_half_even(std::clamp(value, 0.0f, count_of_codes() - 1.0f)));
    } else {
      write_scale(side, std::max(stored(value), read_scale(side) > 0 ? smallest_scale(spec_.scale_dtype) : 0.0f));
    }
  }
  void slopes(std::span<const std::byte> side, std::size_t index, std::span<Slope> slopes) const override {
    if (index == 1) {
      slopes[0] = {0, -read_scale(side)};
    } else {
      slopes[0] = {1, spec_.symmetric ? 0.0f : -static_cast<float>(zero_of(side, 0))};
    }
  }

  void pack_row(std::span<const std::int16_t> codes, std::span<const std::byte> side,
                std::span<std::byte> out) const override {
    const std::size_t count = one_side_per_tensor() ? 0 : units(codes.size());
    for (std::size_t u = 0; u < count; ++u)
      std::memcpy(out.data() + u * scale_bytes(), side.data() + u * side_bytes(), scale_bytes());
    if (!spec_.symmetric && count > 0) {
      BitWriter zeros(out.subspan(count * scale_bytes(), packed_bytes(count, spec_.bits)), spec_.bits);
      for (std::size_t u = 0; u < count; ++u) zeros.put(zero_of(side, u));
    }
    BitWriter writer(out.subspan(row_side_bytes(codes.size())), spec_.bits);
    for (const std::int16_t code : codes) writer.put(static_cast<unsigned>(code + code_shift()));
  }

  void unpack_row(std::span<const std::byte> in, std::span<std::int16_t> codes,
                  std::span<std::byte> side) const override {
    const std::size_t count = one_side_per_tensor() ? 0 : units(codes.size());
    for (std::size_t u = 0; u < count; ++u)
      std::memcpy(side.data() + u * side_bytes(), in.data() + u * scale_bytes(), scale_bytes());
    if (!spec_.symmetric && count > 0) {
      BitReader zeros(in.subspan(count * scale_bytes(), packed_bytes(count, spec_.bits)), spec_.bits);
      for (std::size_t u = 0; u < count; ++u)
        side[u * side_bytes() + scale_bytes()] = static_cast<std::byte>(zeros.get());
    }
    BitReader reader(in.subspan(row_side_bytes(codes.size())), spec_.bits);
    for (std::int16_t& code : codes) code = static_cast<std::int16_t>(static_cast<int>(reader.get()) - code_shift());
  }

 private:
  float count_of_codes() const { return static_cast<float>(1 << spec_.bits); }
  float half() const { return static_cast<float>(1 << (spec_.bits - 1)); }
  std::size_t scale_bytes() const { return bytes_of(spec_.scale_dtype); }
  std::uint64_t row_side_bytes(std::size_t cols) const {
    if (one_side_per_tensor()) return 0;
    return units(cols) * scale_bytes() + (spec_.symmetric ? 0 : packed_bytes(units(cols), spec_.bits));
  }
  unsigned zero_of(std::span<const std::byte> side, std::size_t unit) const {
    return std::to_integer<unsigned>(side[unit * side_bytes() + scale_bytes()]);
  }
  /// Stored code minus code.
  int code_shift() const { return spec_.symmetric ? static_cast<int>(half()) : 0; }

  void write_scale(std::span<std::byte> side, float scale) const {
    from_float(spec_.scale_dtype, std::span(&scale, 1), side.first(scale_bytes()));
  }
  float read_scale(std::span<const std::byte> side) const {
    float scale = 0;
    to_float(spec_.scale_dtype, side.first(scale_bytes()), std::span(&scale, 1));
    return scale;
  }
  float stored(float scale) const { return store_scale(spec_.scale_dtype, scale); }

  /// Weights of no importance have no say.
  float minmax_scale(std::span<const float> weights, std::span<const float> importance) const {
    return stored(std::fabs(extremes_of(weights, importance).top()) / (half() - 1.0f));
  }

  float searched_scale(std::span<const float> weights, std::span<const float> importance) const {
    return fit_stored_scale(weights, importance, {-half(), half() - 1.0f, false}, spec_.scale_dtype,
                            minmax_scale(weights, importance));
  }

  struct ScaleAndZero {
    float scale = 0;
    unsigned zero = 0;
  };

  /// The grid whose range is `shrink` times [lo, hi].
  ScaleAndZero asymmetric_at(float lo, float hi, float shrink) const {
    const float scale = stored(shrink * (hi - lo) / (count_of_codes() - 1.0f));
    if (scale == 0) return {};
    const float zero = std::clamp(round_half_even(-shrink * lo / scale), 0.0f, count_of_codes() - 1.0f);
    return {scale, static_cast<unsigned>(zero)};
  }

  ScaleAndZero fit_asymmetric(std::span<const float> weights, std::span<const float> importance, ScaleRule rule) const {
    const bool searching = rule == ScaleRule::search;
    const auto [lo, hi] = extremes_of(weights, searching ? importance : std::span<const float>());
    if (hi - lo < kNegligible) return {};
    BestOfSixteen best(*this, weights, importance);
    best.add(asymmetric_at(lo, hi, 1.0f));
    if (!searching || best.first().scale == 0) return best.first();
    constexpr int kRounds = 3;
    constexpr int kLast = kRounds * static_cast<int>(kCandidates) - 2;  // range 1.04 down to 0.26 of the extremes
    for (int i = 0; i <= kLast; ++i) best.add(asymmetric_at(lo, hi, 1.04f - 0.78f * static_cast<float>(i) / kLast));
    return best.best();
  }

  /// Evaluates grids sixteen at a time: each with its scale refitted to its codes and stored, by its own error.
  class BestOfSixteen {
   public:
    BestOfSixteen(const IntegerGrid& grid, std::span<const float> weights, std::span<const float> importance)
        : grid_(grid), weights_(weights), importance_(importance) {}

    void add(ScaleAndZero candidate) {
      grids_[count_++] = candidate;
      if (count_ < kCandidates) return;
      evaluate();
      refit();
      evaluate();
      count_ = 0;
    }
    const ScaleAndZero& first() const { return grids_[0]; }
    const ScaleAndZero& best() const { return best_; }

   private:
    void evaluate() {
      Candidates candidates;
      for (std::size_t c = 0; c < kCandidates; ++c) {
        const auto zero = static_cast<float>(grids_[c].zero);
        candidates.inverse[c] = grids_[c].scale > 0 ? 1.0f / grids_[c].scale : 0.0f;
        candidates.lo[c] = -zero;
        candidates.hi[c] = grid_.count_of_codes() - 1.0f - zero;
      }
      moments_ = candidate_moments(weights_, importance_, candidates, false);
      for (std::size_t c = 0; c < kCandidates; ++c) {
        const double error = double{moments_.ee[c]} * grids_[c].scale * grids_[c].scale;
        if (grids_[c].scale == 0 || !(error < error_)) continue;
        error_ = error;
        best_ = grids_[c];
      }
    }
    void refit() {
      for (std::size_t c = 0; c < kCandidates; ++c) {
        const float growth = moments_.ll[c] > 0 ? moments_.el[c] / moments_.ll[c] : 0.0f;
        const float refined = grid_.stored(grids_[c].scale * (1.0f + growth));
        if (refined > 0) grids_[c].scale = refined;
      }
    }

    const IntegerGrid& grid_;
    std::span<const float> weights_;
    std::span<const float> importance_;
    std::array<ScaleAndZero, kCandidates> grids_{};
    std::size_t count_ = 0;
    CandidateMoments moments_{};
    ScaleAndZero best_;
    double error_ = INFINITY;
  };

  IntegerGridSpec spec_;
};

}  // namespace

const IntegerGridSpec* integer_spec_of(const Grid& grid) {
  const auto* const integer = dynamic_cast<const IntegerGrid*>(&grid);
  return integer == nullptr ? nullptr : &integer->spec();
}

std::shared_ptr<const Grid> make_integer_grid(const IntegerGridSpec& spec) {
  const bool bits_exist = (spec.bits >= 2 && spec.bits <= 6) || spec.bits == 8;
  if (!bits_exist) fail(ErrorKind::bad_recipe, "int{}: integer grids have 2, 3, 4, 5, 6 or 8 bits", spec.bits);
  if (!is_weight_dtype(spec.scale_dtype))
    fail(ErrorKind::bad_recipe, "scales are f16, bf16 or f32, not {}", name_of(spec.scale_dtype));
  constexpr std::size_t kLargestGroup = 65536;
  if (spec.scope == ScaleScope::group && (spec.group < 2 || spec.group > kLargestGroup))
    fail(ErrorKind::bad_recipe, "group: {} is not between 2 and {}", spec.group, kLargestGroup);
  return std::make_shared<IntegerGrid>(spec);
}

}  // namespace adze
