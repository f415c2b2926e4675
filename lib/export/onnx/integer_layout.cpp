#include "export/onnx/integer_layout.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/checked.h"
#include "base/error.h"
#include "base/parallel.h"

namespace adze {
namespace {

constexpr std::size_t kLargestBlock = 256, kSmallestBlock = 16;
constexpr std::size_t kSliceBytes = std::size_t{1} << 16;  // of what threads pack

/// Nothing that is not finite gets out.
std::vector<float> checked_scales(const IntegerMatrix& matrix) {
  std::vector<float> scales = scales_of(matrix);
  const auto bad = std::ranges::find_if(scales, [](float scale) { return !std::isfinite(scale); });
  if (bad != scales.end())
    fail(ErrorKind::internal, "row {}: a scale is {}", static_cast<std::size_t>(bad - scales.begin()) / matrix.groups(),
         *bad);
  return scales;
}

/// What symmetric codes of `bits` bits need so that their zero is that of wider ones.
std::uint8_t shift_of(const IntegerGridSpec& spec, int bits) {
  return spec.symmetric ? static_cast<std::uint8_t>((1 << (bits - 1)) - (1 << (spec.bits - 1))) : std::uint8_t{0};
}

void pack(std::span<std::byte> out, int bits, std::span<const std::uint8_t> values) {
  BitWriter writer(out, bits);
  for (const std::uint8_t value : values) writer.put(value);
}

}  // namespace

std::optional<BlockLayout> block_layout(const IntegerGridSpec& spec, std::size_t cols) {
  const bool has_groups = spec.scope == ScaleScope::group;
  const std::size_t shared = has_groups ? spec.group : cols;
  std::size_t block = kLargestBlock;
  while (block >= kSmallestBlock && shared % block != 0) block /= 2;
  if (block < kSmallestBlock) {
    if (has_groups) return std::nullopt;
    block = kSmallestBlock;  // one scale a row: the last block need not be full
  }
  const int bits = spec.bits == 2 ? 2 : spec.bits <= 4 ? 4 : 8;
  return BlockLayout{bits, block, (cols + block - 1) / block};
}

IntegerParts block_parts(const IntegerMatrix& sides, CodeRows codes, const BlockLayout& layout) {
  const std::size_t rows = sides.shape.rows, groups = sides.groups(), shared = sides.group_cols();
  const bool is_asymmetric = !sides.spec.symmetric, is_same_stream = sides.spec.bits == layout.bits;
  const std::vector<float> scales = checked_scales(sides);
  const std::uint8_t shift = shift_of(sides.spec, layout.bits);
  IntegerParts parts;
  parts.codes = ByteArray(rows * layout.row_bytes());
  parts.scales.resize(rows * layout.blocks);
  if (is_asymmetric) parts.zeros = ByteArray(rows * layout.zero_bytes());
  constexpr std::size_t kTileRows = 64;
  parallel_for(divide_up(rows, kTileRows), [&](std::size_t tile) {
    std::vector<std::uint8_t> zeros(layout.blocks), row(sides.shape.cols);
    for (std::size_t r = tile * kTileRows; r < std::min(rows, (tile + 1) * kTileRows); ++r) {
      const std::span<std::byte> out(parts.codes.data() + r * layout.row_bytes(), layout.row_bytes());
      if (is_same_stream) {
        std::memcpy(out.data(), codes.row(r).data(), codes.cols());
        std::ranges::fill(out.subspan(codes.cols()), std::byte{0});
      } else {
        unpack_values(codes.row(r), sides.spec.bits, row);
        for (std::uint8_t& code : row) code = static_cast<std::uint8_t>(code + shift);
        pack(out, layout.bits, row);
      }
      for (std::size_t b = 0; b < layout.blocks; ++b) {
        const std::size_t side = r * groups + std::min(b * layout.block / shared, groups - 1);
        parts.scales[r * layout.blocks + b] = scales[side];
        zeros[b] = sides.zeros[side];
      }
      if (is_asymmetric) pack({parts.zeros.data() + r * layout.zero_bytes(), layout.zero_bytes()}, layout.bits, zeros);
    }
  });
  return parts;
}

int dequantize_bits(const IntegerGridSpec& spec) { return spec.bits <= 4 ? 4 : 8; }

IntegerParts dequantize_parts(const IntegerMatrix& matrix) {
  const auto [rows, cols] = matrix.shape;
  const std::size_t groups = matrix.groups();
  const int bits = dequantize_bits(matrix.spec);
  const std::vector<float> scales = checked_scales(matrix);
  const int zero = matrix.spec.symmetric ? 1 << (matrix.spec.bits - 1) : 0;  // what codes of signed types lack
  const int mask = (1 << bits) - 1;
  std::vector<std::uint8_t> turned(rows * cols), zeros(rows * groups);
  IntegerParts parts;
  parts.scales.resize(rows * groups);
  constexpr std::size_t kTileRows = 16;  // lines of both sides stay in the cache
  parallel_for((rows + kTileRows - 1) / kTileRows, [&](std::size_t tile) {
    const std::size_t first = tile * kTileRows, count = std::min(kTileRows, rows - first);
    std::vector<std::vector<std::uint8_t>> lines;
    for (std::size_t r = first; r < first + count; ++r) lines.push_back(matrix.unpacked_row(r));
    for (std::size_t c = 0; c < cols; ++c)
      for (std::size_t i = 0; i < count; ++i)
        turned[c * rows + first + i] = static_cast<std::uint8_t>((lines[i][c] - zero) & mask);
    for (std::size_t g = 0; g < groups; ++g)
      for (std::size_t r = first; r < first + count; ++r) {
        parts.scales[g * rows + r] = scales[r * groups + g];
        zeros[g * rows + r] = matrix.zeros[r * groups + g];
      }
  });
  const auto packed = [&](const std::vector<std::uint8_t>& values) {
    std::vector<std::byte> bytes(packed_bytes(values.size(), bits));
    if (bits == 8) {
      std::memcpy(bytes.data(), values.data(), values.size());
      return bytes;
    }
    parallel_for((bytes.size() + kSliceBytes - 1) / kSliceBytes, [&](std::size_t slice) {
      const std::size_t first = slice * kSliceBytes, count = std::min(kSliceBytes, bytes.size() - first);
      pack({bytes.data() + first, count}, bits,
           std::span(values).subspan(2 * first, std::min(2 * count, values.size() - 2 * first)));
    });
    return bytes;
  };
  parts.codes = packed(turned);
  if (!matrix.spec.symmetric) parts.zeros = packed(zeros);
  return parts;
}

}  // namespace adze
