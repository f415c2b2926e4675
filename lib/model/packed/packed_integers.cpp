#include "model/packed/packed_integers.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "base/byte_array.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/parallel.h"

namespace adze {

std::vector<std::byte> word_column(std::span<const std::byte> words, std::size_t cols, std::size_t col) {
  constexpr std::size_t kWord = 4;
  std::vector<std::byte> column(words.size() / cols);
  for (std::size_t r = 0; r < column.size() / kWord; ++r)
    std::memcpy(column.data() + r * kWord, words.data() + (r * cols + col) * kWord, kWord);
  return column;
}

namespace {

/// Where a square of elements begins on either side.
struct Corner {
  const std::byte* from;
  std::size_t from_stride;  ///< bytes
  std::byte* to;
  std::size_t to_stride;
};

constexpr std::size_t kLine = 64;  // bytes of the cache

/// Turns height x width elements of kWidth bytes, at most a cache line of each row and column, in a place of their own:
/// rows of either side may push each other out of the cache.
template <std::size_t kWidth, typename Count>
void turn_square(const Corner& at, Count height, Count width) {
  constexpr std::size_t kSide = kLine / kWidth;
  std::array<std::byte, kLine * kSide> square;
  for (std::size_t r = 0; r < height; ++r)
    for (std::size_t c = 0; c < width; ++c)
      std::memcpy(square.data() + c * kLine + r * kWidth, at.from + r * at.from_stride + c * kWidth, kWidth);
  for (std::size_t c = 0; c < width; ++c)
    std::memcpy(at.to + c * at.to_stride, square.data() + c * kLine, height * kWidth);
}

// The writers have such a loop, too (export/folder/bit_words.h): what verifies them is not what wrote.
template <std::size_t kWidth>
std::vector<std::byte> turned_fixed(std::span<const std::byte> elements, std::size_t rows, std::size_t cols) {
  constexpr std::size_t kSide = kLine / kWidth;
  constexpr std::integral_constant<std::size_t, kSide> kWhole;  // of squares, a size that the compiler knows
  std::vector<std::byte> out(elements.size());
  parallel_for((rows + kSide - 1) / kSide, [&](std::size_t band) {
    const std::size_t top = band * kSide, height = std::min(kSide, rows - top);
    for (std::size_t left = 0; left < cols; left += kSide) {
      const std::size_t width = std::min(kSide, cols - left);
      const Corner corner{elements.data() + (top * cols + left) * kWidth, cols * kWidth,
                          out.data() + (left * rows + top) * kWidth, rows * kWidth};
      if (height == kSide && width == kSide)
        turn_square<kWidth>(corner, kWhole, kWhole);
      else
        turn_square<kWidth>(corner, height, width);
    }
  });
  return out;
}

}  // namespace

std::vector<std::byte> turned(std::span<const std::byte> elements, std::size_t rows, std::size_t cols,
                              std::size_t width) {
  return width == 2 ? turned_fixed<2>(elements, rows, cols) : turned_fixed<4>(elements, rows, cols);
}

TensorPtr integer_tensor(const PackedSizes& sizes, Shape shape, const FillCodes& fill, RawTensors::Floats scales,
                         std::vector<std::uint8_t> zeros) {
  const auto middle = static_cast<std::uint8_t>(1 << (sizes.bits - 1));
  IntegerGridSpec spec;
  spec.bits = sizes.bits;
  spec.scope = sizes.group == 0 ? ScaleScope::channel : ScaleScope::group;
  if (sizes.group > 0) spec.group = sizes.group;
  spec.symmetric = sizes.symmetric && std::ranges::all_of(zeros, [&](std::uint8_t z) { return z == middle; });
  spec.scale_dtype = scales.dtype;
  const IntegerMatrix matrix{spec, shape, {}, std::move(scales.bytes), std::move(zeros)};
  const std::vector<float> values = scales_of(matrix);
  const auto wrong = std::ranges::find_if_not(values, [](float scale) { return std::isfinite(scale); });
  if (wrong != values.end())
    fail(ErrorKind::bad_data, "row {}: a scale is not finite",
         static_cast<std::size_t>(wrong - values.begin()) / matrix.groups());
  return pack_integers(matrix, fill);
}

void put_stream(std::span<std::byte> row, std::size_t r, std::size_t at, std::span<const std::byte> bytes) {
  const std::size_t count = std::min(bytes.size(), row.size() - std::min(at, row.size()));
  if (count > 0) std::memcpy(row.data() + at, bytes.data(), count);
  if (std::ranges::any_of(bytes.subspan(count), [](std::byte b) { return b != std::byte{0}; }))
    fail(ErrorKind::bad_data, "row {}: bits after the last code are not zero", r);
}

FillCodes codes_of_rows(const RawTensors& raw, const std::string& name, SafetensorsType type, Shape shape, int bits) {
  const Shape words{shape.rows, checked_cast<std::size_t>(word_count(shape.cols, bits))};
  raw.require(name, type, {words.rows, words.cols});
  return [&raw, name, type, words](MatrixView<std::byte> rows) {
    raw.read_rows(name, type, words, 1, [&](std::size_t first, std::span<const std::byte> bytes) {
      const std::size_t stored = words.cols * sizeof(std::uint32_t);
      for (std::size_t r = 0; r < bytes.size() / stored; ++r)
        put_stream(rows.row(first + r), first + r, 0, bytes.subspan(r * stored, stored));
    });
  };
}

TensorPtr float_tensor(Shape shape, int bits, const FillCodes& fill,
                       const std::function<float(std::size_t, std::size_t, int)>& value) {
  const auto row_bytes = static_cast<std::size_t>(packed_bytes(shape.cols, bits));
  ByteArray codes(shape.rows * row_bytes);
  fill({codes.data(), {shape.rows, row_bytes}});
  std::vector<std::byte> payload(shape.count() * sizeof(float));
  parallel_for(shape.rows, [&](std::size_t r) {
    BitReader reader({codes.data() + r * row_bytes, row_bytes}, bits);
    for (std::size_t c = 0; c < shape.cols; ++c) {
      const float v = value(r, c, static_cast<int>(reader.get()));
      std::memcpy(payload.data() + (r * shape.cols + c) * sizeof(float), &v, sizeof(float));
    }
  });
  return std::make_shared<DenseTensor>(DType::f32, shape, std::move(payload));
}

}  // namespace adze
