// Matrices on integer grids taken apart and put together again, at sizes that fill no byte.
#include <gtest/gtest.h>

#include <cstring>

#include "base/error.h"
#include "grid/integer/integer_matrix.h"

namespace adze {
namespace {

/// Codes, scales and zero points of any value that the grid has.
IntegerMatrix some_matrix(int bits, bool is_symmetric, Shape shape) {
  IntegerMatrix matrix{{bits, is_symmetric, ScaleScope::channel, 0, DType::f16}, shape, {}, {}, {}};
  matrix.codes.resize(shape.rows * matrix.code_bytes());
  for (std::size_t r = 0; r < shape.rows; ++r) {
    std::vector<std::uint8_t> row(shape.cols);
    for (std::size_t c = 0; c < shape.cols; ++c) row[c] = static_cast<std::uint8_t>((c * 5 + r * 3) % (1U << bits));
    matrix.pack_row(r, row);
    matrix.scales.insert(matrix.scales.end(), {static_cast<std::byte>(r), std::byte{0x3C}});
    matrix.zeros.push_back(static_cast<std::uint8_t>(is_symmetric ? 1U << (bits - 1) : (r + 1) % (1U << bits)));
  }
  return matrix;
}

TEST(Bits, ValuesTogetherAreThoseOneByOne) {
  std::vector<std::byte> bytes(64);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 37 + 11);
  for (int bits = 1; bits <= 8; ++bits)
    for (const std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{7}, std::size_t{33}, std::size_t{64}}) {
      std::vector<std::uint8_t> values(count);
      unpack_values(std::span(bytes).first(packed_bytes(count, bits)), bits, values);
      BitReader reader(bytes, bits);
      for (const std::uint8_t value : values) ASSERT_EQ(value, reader.get()) << bits << " " << count;
    }
}

TEST(IntegerMatrix, PartsAreThoseThatWerePutTogether) {
  for (const int bits : {2, 3, 4, 5, 6, 8})
    for (const bool is_symmetric : {true, false})
      for (const Shape shape : {Shape{1, 1}, Shape{3, 37}, Shape{130, 66}}) {
        const IntegerMatrix matrix = some_matrix(bits, is_symmetric, shape);
        const auto packed = pack_integers(matrix);
        const IntegerMatrix again = unpack_integers(*packed), sides = unpack_sides(*packed);
        EXPECT_EQ(again.codes, matrix.codes);
        EXPECT_EQ(again.scales, matrix.scales);
        EXPECT_EQ(again.zeros, matrix.zeros);
        EXPECT_TRUE(sides.codes.empty());
        EXPECT_EQ(sides.zeros, matrix.zeros);
        const CodeRows stored = stored_codes(*packed);
        ASSERT_EQ(stored.cols(), matrix.code_bytes());
        for (std::size_t r = 0; r < shape.rows; ++r)
          ASSERT_EQ(std::memcmp(stored.row(r).data(), matrix.code_row(r).data(), stored.cols()), 0) << r;
        const auto filled = pack_integers(sides, [&](MatrixView<std::byte> rows) {
          for (std::size_t r = 0; r < rows.rows(); ++r)
            std::memcpy(rows.row(r).data(), matrix.code_row(r).data(), rows.cols());
        });
        ASSERT_EQ(filled->payload().size(), packed->payload().size());
        EXPECT_EQ(std::memcmp(filled->payload().data(), packed->payload().data(), packed->payload().size()), 0);
      }
}

TEST(IntegerMatrix, BitsAfterTheLastCodeAreZero) {
  const IntegerMatrix matrix = some_matrix(4, false, {2, 3});
  EXPECT_THROW(pack_integers(matrix,
                             [](MatrixView<std::byte> rows) {
                               for (std::size_t r = 0; r < rows.rows(); ++r)
                                 std::ranges::fill(rows.row(r), std::byte{0xFF});
                             }),
               Error);
}

}  // namespace
}  // namespace adze
