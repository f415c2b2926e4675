#include "linalg/transposed_elements.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/error.h"
#include "base/random.h"

namespace adze {
namespace {

constexpr std::byte kUntouched{0x5A};

class TransposedElements : public ::testing::TestWithParam<std::size_t> {};

TEST_P(TransposedElements, AreThoseOfAPlainLoopWhateverShapeAndAddress) {
  const std::size_t width = GetParam();
  constexpr std::size_t kSizes[] = {0, 1, 3, 8, 15, 16, 17, 31, 32, 33, 64, 67, 97};
  RandomStream random(3, "elements");
  for (const std::size_t rows : kSizes)
    for (const std::size_t cols : kSizes)
      for (const std::size_t gap : {0, 1, 32}) {  // bytes between rows, and before the first
        const std::size_t in_stride = cols * width + gap, out_stride = rows * width + gap;
        std::vector<std::byte> elements(gap + rows * in_stride), memory(gap + cols * out_stride, kUntouched);
        for (std::byte& byte : elements) byte = static_cast<std::byte>(random.next());
        const MatrixView<const std::byte> in(elements.data() + gap, {rows, cols * width}, in_stride);
        const MatrixView<std::byte> out(memory.data() + gap, {cols, rows * width}, out_stride);
        transpose_elements(in, out, width);
        for (std::size_t r = 0; r < rows; ++r)
          for (std::size_t c = 0; c < cols; ++c)
            for (std::size_t b = 0; b < width; ++b)
              ASSERT_EQ(out(c, r * width + b), in(r, c * width + b)) << rows << " x " << cols << ": " << r << ", " << c;
        for (std::size_t i = 0; i < memory.size(); ++i)
          if (i < gap || (i - gap) % out_stride >= rows * width) {
            ASSERT_EQ(memory[i], kUntouched) << rows << " x " << cols << ": " << i;
          }
      }
}

INSTANTIATE_TEST_SUITE_P(Widths, TransposedElements, ::testing::Values(2, 4), ::testing::PrintToStringParamName());

TEST(TransposedElements, RefuseOtherShapesAndWidths) {
  std::vector<std::byte> in(64), out(64);
  EXPECT_THROW(transpose_elements({in.data(), {2, 32}}, {out.data(), {7, 8}}, 4), Error);
  EXPECT_THROW(transpose_elements({in.data(), {2, 32}}, {out.data(), {8, 4}}, 4), Error);
  EXPECT_THROW(transpose_elements({in.data(), {2, 32}}, {out.data(), {16, 2}}, 2), Error);
  EXPECT_THROW(transpose_elements({in.data(), {2, 32}}, {out.data(), {32, 2}}, 1), Error);
}

}  // namespace
}  // namespace adze
