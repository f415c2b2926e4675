// TQ1_0 and TQ2_0 (gguf.md 5.14, 5.15): blocks of 256 with one f16 d; value = d * code, code -1, 0 or 1.
#include <algorithm>
#include <array>
#include <cmath>

#include "grid/gguf/block_grid.h"
#include "grid/gguf/gguf_grids.h"

namespace adze {
namespace {

constexpr std::size_t kBlockCols = 256;

struct Magnitude {
  float size = 0;
  float importance = 0;
};

/// The step with the least weighted error over all steps and codes. Weights that are not zero after rounding are those
/// of largest magnitude; with a prefix of them chosen, s = S / H (S = sum h |w|, H = sum h) and the error falls by
/// S^2 / H. So the best prefix in descending order is the best of all.
float exact_ternary_step(std::span<const float> weights, std::span<const float> importance) {
  std::array<Magnitude, kBlockCols> sorted;
  for (std::size_t i = 0; i < kBlockCols; ++i) sorted[i] = {std::fabs(weights[i]), importance[i]};
  std::ranges::sort(sorted, [](const Magnitude& a, const Magnitude& b) { return a.size > b.size; });
  double sum = 0;
  double sum_h = 0;
  double most = 0;
  double step = 0;
  for (const Magnitude& m : sorted) {
    sum += double{m.importance} * m.size;
    sum_h += m.importance;
    if (sum_h > 0 && sum * sum / sum_h > most) {
      most = sum * sum / sum_h;
      step = sum / sum_h;
    }
  }
  return static_cast<float>(step);
}

class TernaryBlocks : public BlockGrid {
 public:
  explicit TernaryBlocks(const BlockLayout& layout) : BlockGrid(layout, {{0, 1}}) {}

  void fit(std::span<const float> weights, std::span<const float> importance, ScaleRule rule,
           std::span<std::byte> side) const override {
    const float largest = std::fabs(extremes_of(weights, {}).top());
    const float step = rule == ScaleRule::search ? exact_ternary_step(weights, importance) : largest;
    write_f16(side, round_to_f16(step > 0 ? step : largest));
  }
  void read_side(std::span<const std::byte> side, std::span<StepGroup> groups) const override {
    groups[0] = {read_f16(side), kNoOffset, -1.0f, 1.0f};
  }
  float parameter(std::span<const std::byte> side, std::size_t) const override { return read_f16(side); }
  void set_parameter(std::span<std::byte> side, std::size_t, float value) const override {
    write_f16(side, moved_positive_f16(read_f16(side), value));
  }
  void slopes(std::span<const std::byte>, std::size_t, std::span<Slope> slopes) const override { slopes[0] = {1, 0}; }
};

/// Bytes that hold up to five trits as a fraction of 3^5 = 243 in 256ths.
struct TritBytes {
  std::size_t first_element;
  std::size_t offset;
  std::size_t bytes;  ///< element = first_element + digit * bytes + byte
  std::size_t digits;
};
constexpr std::array kTritBytes{TritBytes{0, 0, 32, 5}, TritBytes{160, 32, 16, 5}, TritBytes{240, 48, 4, 4}};

class FiveTritBlocks final : public TernaryBlocks {
 public:
  using TernaryBlocks::TernaryBlocks;

 protected:
  void pack_codes(std::span<const std::int16_t> codes, std::span<std::byte> block) const override {
    for (const TritBytes& part : kTritBytes)
      for (std::size_t j = 0; j < part.bytes; ++j) {
        int value = 0;
        for (std::size_t digit = 0; digit < 5; ++digit) {
          const std::size_t element = part.first_element + digit * part.bytes + j;
          value = 3 * value + (digit < part.digits ? codes[element] + 1 : 0);
        }
        block[part.offset + j] = static_cast<std::byte>((value * 256 + 242) / 243);
      }
  }
  void unpack_codes(std::span<const std::byte> block, std::span<std::int16_t> codes) const override {
    for (const TritBytes& part : kTritBytes)
      for (std::size_t j = 0; j < part.bytes; ++j) {
        int rest = std::to_integer<int>(block[part.offset + j]);
        for (std::size_t digit = 0; digit < part.digits; ++digit, rest = (3 * rest) & 255)
          codes[part.first_element + digit * part.bytes + j] = static_cast<std::int16_t>(((3 * rest) >> 8) - 1);
      }
  }
};

}  // namespace

std::shared_ptr<const Grid> make_tq1_0_grid() {
  return std::make_shared<FiveTritBlocks>(
      BlockLayout{"gguf/tq1_0", "gguf/q4_0", kBlockCols, kBlockCols, 54, 2, true, {SidePart{52, 2}}, {}, 0});
}

std::shared_ptr<const Grid> make_tq2_0_grid() {
  return std::make_shared<TernaryBlocks>(BlockLayout{
      "gguf/tq2_0", "gguf/q4_0", kBlockCols, kBlockCols, 66, 2, true, {SidePart{64, 2}}, {CodeField{0, 2, 32, 0}}, 1});
}

}  // namespace adze
