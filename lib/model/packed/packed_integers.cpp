#include "model/packed/packed_integers.h"

#include <algorithm>
#include <cstring>

#include "base/parallel.h"

namespace adze {

std::vector<std::byte> word_column(std::span<const std::byte> words, std::size_t cols, std::size_t col) {
  constexpr std::size_t kWord = 4;
  std::vector<std::byte> column(words.size() / cols);
  for (std::size_t r = 0; r < column.size() / kWord; ++r)
    std::memcpy(column.data() + r * kWord, words.data() + (r * cols + col) * kWord, kWord);
  return column;
}

std::vector<std::byte> turned(std::span<const std::byte> elements, std::size_t rows, std::size_t cols,
                              std::size_t width) {
  std::vector<std::byte> out(elements.size());
  for (std::size_t i = 0; i < rows * cols; ++i)
    std::memcpy(out.data() + (i % cols * rows + i / cols) * width, elements.data() + i * width, width);
  return out;
}

TensorPtr integer_tensor(const PackedSizes& sizes, Shape shape, std::vector<std::uint8_t> codes,
                         RawTensors::Floats scales, std::vector<std::uint8_t> zeros) {
  const auto middle = static_cast<std::uint8_t>(1 << (sizes.bits - 1));
  IntegerGridSpec spec;
  spec.bits = sizes.bits;
  spec.scope = sizes.group == 0 ? ScaleScope::channel : ScaleScope::group;
  if (sizes.group > 0) spec.group = sizes.group;
  spec.symmetric = sizes.symmetric && std::ranges::all_of(zeros, [&](std::uint8_t z) { return z == middle; });
  spec.scale_dtype = scales.dtype;
  return pack_integers({spec, shape, std::move(codes), std::move(scales.bytes), std::move(zeros)});
}

TensorPtr float_tensor(Shape shape, const std::function<float(std::size_t, std::size_t)>& value) {
  std::vector<std::byte> payload(shape.count() * sizeof(float));
  parallel_for(shape.rows, [&](std::size_t r) {
    for (std::size_t c = 0; c < shape.cols; ++c) {
      const float v = value(r, c);
      std::memcpy(payload.data() + (r * shape.cols + c) * sizeof(float), &v, sizeof(float));
    }
  });
  return std::make_shared<DenseTensor>(DType::f32, shape, std::move(payload));
}

}  // namespace adze
