#include "linalg/turned_words.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "base/error.h"
#include "linalg/linalg_testing.h"

namespace adze {
namespace {

using testing::random_matrix;

constexpr std::size_t kWord = 4;

std::uint32_t word_at(MatrixView<const std::byte> words, std::size_t r, std::size_t c) {
  std::uint32_t word = 0;
  std::memcpy(&word, words.row(r).data() + c * kWord, kWord);
  return word;
}

TEST(TurnedWords, AreThoseOfAPlainLoopWhateverShapeAndAddress) {
  constexpr std::size_t kSizes[] = {0, 1, 3, 4, 5, 15, 16, 17, 64, 67};
  for (const std::size_t rows : kSizes)
    for (const std::size_t cols : kSizes)
      for (const std::size_t gap : {0, 1, 32}) {  // bytes between rows, and before the first
        const MatrixF values = random_matrix<float>({1, rows * (cols + gap) + gap + 1}, "words");
        const std::size_t in_stride = cols * kWord + gap, out_stride = rows * kWord + gap;
        const MatrixView<const std::byte> in(std::as_bytes(values.values()).data() + gap, {rows, cols * kWord},
                                             in_stride);
        std::vector<std::byte> memory(cols * out_stride + gap, std::byte{0x5A});
        const MatrixView<std::byte> out(memory.data() + gap, {cols, rows * kWord}, out_stride);
        turn_words(in, out);
        for (std::size_t r = 0; r < rows; ++r)
          for (std::size_t c = 0; c < cols; ++c)
            ASSERT_EQ(word_at(out, c, r), word_at(in, r, c)) << rows << " x " << cols << ": " << r << ", " << c;
        for (std::size_t c = 0; c < cols; ++c)
          for (std::size_t i = 0; i < gap; ++i)
            ASSERT_EQ(memory[gap + c * out_stride + rows * kWord + i], std::byte{0x5A}) << "after row " << c;
      }
}

TEST(TurnedWords, RefuseOtherShapes) {
  std::vector<std::byte> in(64), out(64);
  EXPECT_THROW(turn_words({in.data(), {2, 32}}, {out.data(), {7, 8}}), Error);
  EXPECT_THROW(turn_words({in.data(), {2, 32}}, {out.data(), {8, 4}}), Error);
}

}  // namespace
}  // namespace adze
