// Q8_0 (gguf.md 5.6): d f16, 32 signed bytes; value = d * q. The reference never emits -128, neither do we.
#include <algorithm>
#include <cmath>

#include "grid/fit.h"
#include "grid/gguf/block_grid.h"
#include "grid/gguf/gguf_grids.h"

namespace adze {
namespace {

constexpr float kLargestCode = 127;

class Q8Grid final : public BlockGrid {
 public:
  Q8Grid() : BlockGrid({"gguf/q8_0", nullptr, 32, 32, 34, 2, 8, true}, {{0, 1}}) {}

  void fit(std::span<const float> weights, std::span<const float> importance, ScaleRule rule,
           std::span<std::byte> side) const override {
    if (rule == ScaleRule::search) {
      write_f16(side, fit_scale(weights, importance, -kLargestCode, kLargestCode, false, round_to_f16).step);
      return;
    }
    float largest = 0;
    for (const float w : weights) largest = std::max(largest, std::fabs(w));
    write_f16(side, round_to_f16(largest / kLargestCode));
  }
  void read_side(std::span<const std::byte> side, std::span<StepGroup> groups) const override {
    groups[0] = {read_f16(side), kNoOffset, -kLargestCode, kLargestCode};
  }
  float parameter(std::span<const std::byte> side, std::size_t) const override { return read_f16(side); }
  void set_parameter(std::span<std::byte> side, std::size_t, float value) const override {
    write_f16(side, moved_positive_f16(read_f16(side), value));
  }
  void slopes(std::span<const std::byte>, std::size_t, std::span<Slope> slopes) const override { slopes[0] = {1, 0}; }

 protected:
  void pack_block(std::span<const std::int16_t> codes, std::span<const std::byte> side,
                  std::span<std::byte> block) const override {
    std::copy(side.begin(), side.end(), block.begin());
    for (std::size_t i = 0; i < codes.size(); ++i) block[2 + i] = static_cast<std::byte>(codes[i] & 0xFF);
  }
  void unpack_block(std::span<const std::byte> block, std::span<std::int16_t> codes,
                    std::span<std::byte> side) const override {
    std::copy_n(block.begin(), side.size(), side.begin());
    for (std::size_t i = 0; i < codes.size(); ++i)
      codes[i] = static_cast<std::int8_t>(std::to_integer<unsigned char>(block[2 + i]));
  }
};

}  // namespace

std::shared_ptr<const Grid> make_q8_0_grid() { return std::make_shared<Q8Grid>(); }

}  // namespace adze
