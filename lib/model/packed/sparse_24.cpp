#include "model/packed/sparse_24.h"

#include <array>
#include <bit>
#include <cstring>

#include "base/checked.h"
#include "base/error.h"
#include "grid/float_grid.h"
#include "grid/sparse/sparse_tensor.h"

namespace adze {
namespace {

void check_shape(const RawTensors& raw, const std::string& base, Shape shape) {
  const auto bytes = raw.read(base + ".shape", SafetensorsType::i64, {2, 1});
  std::array<std::uint64_t, 2> said{};
  std::memcpy(said.data(), bytes.data(), sizeof said);
  if (said[0] != shape.rows || said[1] != shape.cols)
    fail(ErrorKind::bad_data, "shape says {} x {} where the architecture has {} x {}", said[0], said[1], shape.rows,
         shape.cols);
}

}  // namespace

bool is_sparse_24(const RawTensors& raw, const std::string& base) { return raw.find(base + ".bitmask") != nullptr; }

std::vector<std::string> sparse_24_tensors(const std::string& base) {
  return {base + ".compressed", base + ".bitmask", base + ".shape"};
}

TensorPtr read_sparse_24(const RawTensors& raw, const std::string& base, Shape shape) {
  constexpr std::size_t kOf = 4;
  const auto [rows, cols] = shape;
  check_shape(raw, base, shape);
  if (cols % kOf != 0) fail(ErrorKind::bad_data, "rows of {} columns do not divide into fours", cols);
  const std::size_t mask_row = static_cast<std::size_t>(divide_up(cols, 8));
  const auto bits = raw.read(base + ".bitmask", SafetensorsType::u8, {rows, mask_row});
  const RawTensors::Floats kept = raw.read_floats(base + ".compressed", {rows, cols / 2});
  if (kept.dtype == DType::f32) fail(ErrorKind::bad_data, "2:4 weights of F32 are not supported; F16 and BF16 are");
  Mask mask(shape);
  std::vector<std::int16_t> codes(shape.count());
  std::size_t next = 0;
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t c = 0; c < cols; c += kOf) {
      const auto byte = std::to_integer<unsigned>(bits[r * mask_row + c / 8]);
      const unsigned four = byte >> (c % 8) & 15U;
      if (std::popcount(four) != 2)
        fail(ErrorKind::bad_data, "row {}, columns from {} on: {} of four are kept, not two", r, c,
             std::popcount(four));
      for (std::size_t j = 0; j < kOf; ++j) {
        if ((four >> j & 1U) == 0) {
          mask.prune(r, c + j);
          continue;
        }
        std::memcpy(&codes[r * cols + c + j], kept.bytes.data() + 2 * next++, 2);
      }
    }
  return pack_sparse(make_float_grid(kept.dtype), SparsityPattern::n_of_m(2, kOf), mask, codes, {});
}

}  // namespace adze
