// Q4_0 (gguf.md 5.2): d f16 of either sign, 16 bytes of nibbles (low: element j, high: j + 16); value = d * (q - 8).
#include <algorithm>
#include <cmath>

#include "grid/fit.h"
#include "grid/gguf/block_grid.h"
#include "grid/gguf/gguf_grids.h"

namespace adze {
namespace {

class Q4Grid final : public BlockGrid {
 public:
  Q4Grid() : BlockGrid({"gguf/q4_0", nullptr, 32, 32, 18, 2, 4, true}, {{0, 1}}) {}

  void fit(std::span<const float> weights, std::span<const float> importance, ScaleRule rule,
           std::span<std::byte> side) const override {
    if (rule == ScaleRule::search) {
      write_f16(side, fit_scale(weights, importance, -8, 7, true, round_to_f16).step);
      return;
    }
    float extreme = 0;  // its code is -8: the sign of d follows
    for (const float w : weights)
      if (std::fabs(w) > std::fabs(extreme)) extreme = w;
    write_f16(side, round_to_f16(extreme / -8.0f));
  }
  void read_side(std::span<const std::byte> side, std::span<StepGroup> groups) const override {
    groups[0] = {read_f16(side), kNoOffset, -8.0f, 7.0f};
  }
  float parameter(std::span<const std::byte> side, std::size_t) const override { return read_f16(side); }
  void set_parameter(std::span<std::byte> side, std::size_t, float value) const override {
    write_f16(side, moved_f16(read_f16(side), value));
  }
  void slopes(std::span<const std::byte>, std::size_t, std::span<Slope> slopes) const override { slopes[0] = {1, 0}; }

 protected:
  void pack_block(std::span<const std::int16_t> codes, std::span<const std::byte> side,
                  std::span<std::byte> block) const override {
    std::copy(side.begin(), side.end(), block.begin());
    for (std::size_t j = 0; j < 16; ++j)
      block[2 + j] = static_cast<std::byte>((codes[j] + 8) | ((codes[j + 16] + 8) << 4));
  }
  void unpack_block(std::span<const std::byte> block, std::span<std::int16_t> codes,
                    std::span<std::byte> side) const override {
    std::copy_n(block.begin(), side.size(), side.begin());
    for (std::size_t j = 0; j < 16; ++j) {
      const int both = std::to_integer<int>(block[2 + j]);
      codes[j] = static_cast<std::int16_t>((both & 15) - 8);
      codes[j + 16] = static_cast<std::int16_t>((both >> 4) - 8);
    }
  }
};

}  // namespace

std::shared_ptr<const Grid> make_q4_0_grid() { return std::make_shared<Q4Grid>(); }

}  // namespace adze
