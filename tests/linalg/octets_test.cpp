// Words of eight rows' codes, packed and unpacked, against loops that take a code at a time.
#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "base/error.h"
#include "base/random.h"
#include "linalg/octet_packing.h"
#include "linalg/octet_unpacking.h"

namespace adze {
namespace {

constexpr std::byte kUntouched{0x5A};

/// Bytes of rows that lie `gap` bytes apart, as many before the first and after the last.
class Rows {
 public:
  Rows(Shape shape, std::size_t gap)
      : shape_(shape), gap_(gap), memory_(gap + shape.rows * (shape.cols + gap), kUntouched) {}

  MatrixView<std::byte> view() { return {memory_.data() + gap_, shape_, shape_.cols + gap_}; }
  void fill() {
    RandomStream random(3, "octets");
    for (std::size_t r = 0; r < shape_.rows; ++r)
      for (std::byte& byte : view().row(r)) byte = static_cast<std::byte>(random.next());
  }
  bool gaps_are_untouched() const {
    for (std::size_t i = 0; i < memory_.size(); ++i)
      if ((i < gap_ || (i - gap_) % (shape_.cols + gap_) >= shape_.cols) && memory_[i] != kUntouched) return false;
    return true;
  }

 private:
  Shape shape_;
  std::size_t gap_;
  std::vector<std::byte> memory_;
};

/// Nibble `at` of a row of bytes, low ones first.
unsigned nibble(MatrixView<const std::byte> rows, std::size_t row, std::size_t at) {
  return std::to_integer<unsigned>(rows(row, at / 2)) >> (4 * (at % 2)) & 15U;
}

/// Where the code of row r lies in the nibbles of a row of words.
std::size_t place_of(std::size_t r) {
  constexpr std::array<std::size_t, 8> kPlace{0, 4, 1, 5, 2, 6, 3, 7};
  return r / 8 * 8 + kPlace[r % 8];
}

struct Case {
  std::size_t outputs, inputs;
};

/// Codes are [outputs x inputs / 2] bytes, words [inputs x outputs / 2].
class Octets : public ::testing::TestWithParam<Case> {
 protected:
  static constexpr std::size_t kGaps[] = {0, 1, 32};
  Shape codes_shape() const { return {GetParam().outputs, (GetParam().inputs + 1) / 2}; }
  Shape words_shape() const { return {GetParam().inputs, GetParam().outputs / 2}; }
};

TEST_P(Octets, ArePackedAsByAPlainLoop) {
  for (const std::size_t gap : kGaps) {
    Rows codes(codes_shape(), gap), words(words_shape(), gap);
    codes.fill();
    pack_octets(codes.view(), words.view());
    for (std::size_t r = 0; r < GetParam().outputs; ++r)
      for (std::size_t c = 0; c < GetParam().inputs; ++c)
        ASSERT_EQ(nibble(words.view(), c, place_of(r)), nibble(codes.view(), r, c)) << r << ", " << c << "; " << gap;
    EXPECT_TRUE(words.gaps_are_untouched()) << gap;
  }
}

TEST_P(Octets, AreUnpackedAsByAPlainLoop) {
  for (const std::size_t gap : kGaps) {
    Rows codes(codes_shape(), gap), words(words_shape(), gap);
    words.fill();
    unpack_octets(words.view(), codes.view());
    for (std::size_t r = 0; r < GetParam().outputs; ++r) {
      for (std::size_t c = 0; c < GetParam().inputs; ++c)
        ASSERT_EQ(nibble(codes.view(), r, c), nibble(words.view(), c, place_of(r))) << r << ", " << c << "; " << gap;
      if (GetParam().inputs % 2 != 0) {
        ASSERT_EQ(nibble(codes.view(), r, GetParam().inputs), 0) << r;
      }
    }
    EXPECT_TRUE(codes.gaps_are_untouched()) << gap;
  }
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const std::size_t outputs : {0, 8, 16, 120, 128, 136, 256, 264, 392})
    for (const std::size_t inputs : {0, 1, 2, 31, 32, 33, 127, 128, 129, 256, 257, 390})
      all.push_back({outputs, inputs});
  return all;
}

INSTANTIATE_TEST_SUITE_P(Shapes, Octets, ::testing::ValuesIn(cases()), [](const auto& test) {
  return std::to_string(test.param.outputs) + "_by_" + std::to_string(test.param.inputs);
});

TEST(OctetShapes, OthersAreRefused) {
  std::vector<std::byte> in(128), out(128);
  const auto refuse = [&](Shape codes, Shape words) {
    EXPECT_THROW(pack_octets({in.data(), codes}, {out.data(), words}), Error);
    EXPECT_THROW(unpack_octets({in.data(), words}, {out.data(), codes}), Error);
  };
  refuse({7, 4}, {8, 3});  // no whole words
  refuse({8, 4}, {9, 4});
  refuse({8, 4}, {6, 4});
  refuse({8, 4}, {8, 8});
}

}  // namespace
}  // namespace adze
