// Matrices: shapes, strides, views of parts.
#include "base/matrix.h"

#include <numeric>
#include <type_traits>
#include <vector>

#include <gtest/gtest.h>

namespace adze {
namespace {

MatrixF counting(std::size_t rows, std::size_t cols) {
  MatrixF matrix(rows, cols);
  std::iota(matrix.values().begin(), matrix.values().end(), 0.0f);
  return matrix;
}

TEST(Matrix, StartsAtZeroAndIsRowMajor) {
  MatrixF matrix(2, 3);
  for (const float value : matrix.values()) EXPECT_EQ(value, 0.0f);
  matrix(1, 2) = 5;
  EXPECT_EQ(matrix.values()[5], 5.0f);
  EXPECT_EQ(matrix.shape(), (Shape{2, 3}));
  EXPECT_EQ(matrix.shape().count(), 6u);
}

TEST(Matrix, ComparesShapeAndValues) {
  EXPECT_EQ(counting(2, 3), counting(2, 3));
  EXPECT_FALSE(counting(2, 3) == counting(3, 2));
  MatrixF other = counting(2, 3);
  other(0, 0) = 1;
  EXPECT_FALSE(other == counting(2, 3));
}

TEST(Matrix, MayBeEmptyInEitherDirection) {
  EXPECT_TRUE(MatrixF().empty());
  EXPECT_TRUE(MatrixF(0, 5).empty());
  const MatrixF rows_only(5, 0);
  EXPECT_TRUE(rows_only.empty());
  EXPECT_EQ(rows_only.row(4).size(), 0u);
}

TEST(MatrixView, PartsSeeTheSameElements) {
  MatrixF matrix = counting(4, 5);
  const ViewF part = matrix.view().row_range(1, 2).col_range(2, 3);
  EXPECT_EQ(part.shape(), (Shape{2, 3}));
  EXPECT_EQ(part.stride(), 5u);
  EXPECT_EQ(part(0, 0), 7.0f);
  EXPECT_EQ(part(1, 2), 14.0f);
  part(1, 2) = -1;
  EXPECT_EQ(matrix(2, 4), -1.0f);
}

TEST(MatrixView, RowsHaveTheWidthOfTheViewNotOfItsStride) {
  const MatrixF matrix = counting(3, 4);
  const ConstViewF part = matrix.view().col_range(1, 2);
  EXPECT_EQ(std::vector<float>(part.row(2).begin(), part.row(2).end()), (std::vector<float>{9, 10}));
}

TEST(MatrixView, RangesMayBeEmpty) {
  const MatrixF matrix = counting(3, 4);
  EXPECT_EQ(matrix.view().row_range(3, 0).rows(), 0u);
  EXPECT_EQ(matrix.view().col_range(4, 0).cols(), 0u);
}

TEST(MatrixView, AViewOfConstCannotBecomeMutable) {
  static_assert(std::is_convertible_v<ViewF, ConstViewF>);
  static_assert(!std::is_convertible_v<ConstViewF, ViewF>);
  static_assert(!std::is_convertible_v<const MatrixF&, ViewF>);
  static_assert(!std::is_convertible_v<ViewD, ConstViewF>);
  MatrixF matrix = counting(2, 2);
  const ConstViewF view = matrix;
  EXPECT_EQ(view(1, 1), 3.0f);
}

#ifndef NDEBUG
TEST(MatrixViewDeathTest, IndicesOutsideAreCaughtInDebugBuilds) {
  const MatrixF matrix = counting(2, 2);
  EXPECT_DEATH(matrix(2, 0), "");
  EXPECT_DEATH(matrix.view().row_range(1, 2), "");
}
#endif

}  // namespace
}  // namespace adze
