#include "grid/float_grid.h"

#include <cstring>

#include "base/error.h"

namespace adze {
namespace {

class FloatGrid final : public Grid {
 public:
  explicit FloatGrid(DType dtype) : dtype_(dtype) {}

  std::string name() const override { return std::string(name_of(dtype_)); }
  std::size_t unit_cols(std::size_t cols) const override { return cols; }
  std::size_t step_cols(std::size_t cols) const override { return cols; }
  std::size_t side_bytes() const override { return 0; }
  int code_bits() const override { return 16; }
  bool holds_zero() const override { return true; }
  std::optional<DType> float_values() const override { return dtype_; }
  std::optional<std::string> cannot_hold(std::size_t) const override { return std::nullopt; }
  std::uint64_t row_bytes(std::size_t cols) const override { return 2 * cols; }
  void fit(std::span<const float>, std::span<const float>, ScaleRule, std::span<std::byte>) const override {}
  void read_side(std::span<const std::byte>, std::span<StepGroup> groups) const override {
    groups[0] = {1.0f, 0.0f, 0.0f, 65535.0f};
  }
  void pack_row(std::span<const std::int16_t> codes, std::span<const std::byte>,
                std::span<std::byte> out) const override {
    std::memcpy(out.data(), codes.data(), codes.size_bytes());
  }
  void unpack_row(std::span<const std::byte> in, std::span<std::int16_t> codes, std::span<std::byte>) const override {
    std::memcpy(codes.data(), in.data(), codes.size_bytes());
  }

 private:
  DType dtype_;
};

}  // namespace

std::shared_ptr<const Grid> make_float_grid(DType dtype) {
  if (dtype != DType::f16 && dtype != DType::bf16)
    fail(ErrorKind::bad_recipe, "values are f16 or bf16, not {}", name_of(dtype));
  return std::make_shared<FloatGrid>(dtype);
}

}  // namespace adze
