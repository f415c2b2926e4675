// Products from packed codes against decoded weights in double.
#include "grid/integer/integer_product.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "base/parallel.h"
#include "grid/grid_testing.h"

namespace adze {
namespace {

using grid_testing::random_weights;

std::shared_ptr<const QuantizedTensor> encoded(const std::string& grid, Shape shape) {
  return std::dynamic_pointer_cast<const QuantizedTensor>(
      grid_testing::encode(grid_from_name(grid), random_weights(shape, grid), ScaleRule::minmax).finish());
}

/// Normal, with a few large entries as activations have.
std::vector<float> inputs(std::size_t cols) {
  RandomStream random(5, "inputs");
  std::vector<float> x(cols);
  for (float& v : x) v = static_cast<float>(random.normal() * (random.below(50) == 0 ? 40 : 1));
  return x;
}

/// The product in double, and what its error may be: 2^-16 of each group's largest input for every weight, and rounding
/// in single precision.
struct Expected {
  std::vector<double> y, error;
};

Expected expected(const QuantizedTensor& tensor, std::size_t group, std::span<const float> x) {
  const MatrixF weights = tensor.decode();
  Expected result;
  for (std::size_t r = 0; r < weights.rows(); ++r) {
    double sum = 0, error = 0;
    for (std::size_t first = 0; first < x.size(); first += group) {
      double largest = 0, magnitude = 0, product = 0;
      for (std::size_t c = first; c < first + group; ++c) {
        largest = std::max(largest, std::fabs(double{x[c]}));
        magnitude += std::fabs(double{weights(r, c)});
        sum += double{weights(r, c)} * x[c];
        product += std::fabs(double{weights(r, c)} * x[c]);
      }
      error += largest * magnitude * 0x1p-16 + product * 0x1p-17;
    }
    result.y.push_back(sum);
    result.error.push_back(error + 1e-9);
  }
  return result;
}

TEST(FourBitProduct, IsThatOfDecodedWeights) {
  for (const char* grid :
       {"int4 g32 sym", "int4 g32 asym", "int4 g64 sym", "int4 g64 asym bf16", "int4 g128 sym", "int4 g128 asym",
        "int4 g128 sym f32", "int4 g96 asym f32", "int4 g160 sym bf16", "int4 channel sym", "int4 channel asym"})
    for (const Shape shape : {Shape{1, 1920}, Shape{37, 1920}, Shape{300, 3840}}) {
      const auto tensor = encoded(grid, shape);
      const auto rows = four_bit_rows(*tensor);
      ASSERT_TRUE(rows) << grid;
      const std::vector<float> x = inputs(shape.cols);
      std::vector<float> y(shape.rows, NAN);
      multiply_four_bit(*rows, x, y);
      const Expected want = expected(*tensor, rows->group, x);
      for (std::size_t r = 0; r < shape.rows; ++r) ASSERT_NEAR(y[r], want.y[r], want.error[r]) << grid << " row " << r;
    }
}

TEST(FourBitProduct, OfSmallIntegersIsExact) {
  const Shape shape{5, 256};
  MatrixF weights(shape);
  for (std::size_t r = 0; r < shape.rows; ++r)
    for (std::size_t c = 0; c < shape.cols; ++c) weights(r, c) = static_cast<float>(static_cast<int>((r + c) % 15) - 7);
  const auto tensor = grid_testing::encode(grid_from_name("int4 g64 sym"), weights, ScaleRule::minmax).finish();
  ASSERT_EQ(tensor->decode(), weights);
  std::vector<float> x(shape.cols), y(shape.rows);
  double sums[5] = {};
  for (std::size_t c = 0; c < shape.cols; ++c) {
    x[c] = c % 64 == 0 ? 32767.0f : static_cast<float>(c % 7) - 3.0f;
    for (std::size_t r = 0; r < shape.rows; ++r) sums[r] += double{weights(r, c)} * x[c];
  }
  multiply_four_bit(*four_bit_rows(dynamic_cast<const QuantizedTensor&>(*tensor)), x, y);
  for (std::size_t r = 0; r < shape.rows; ++r) EXPECT_EQ(y[r], static_cast<float>(sums[r])) << r;
}

TEST(FourBitProduct, OfLongRowsWithOneScaleDoesNotOverflow) {
  const Shape shape{2, 65536};
  MatrixF weights(shape);
  for (float& w : weights.values()) w = 7;
  const auto tensor = grid_testing::encode(grid_from_name("int4 channel sym"), weights, ScaleRule::minmax).finish();
  const std::vector<float> x(shape.cols, 1.0f);
  std::vector<float> y(shape.rows);
  multiply_four_bit(*four_bit_rows(dynamic_cast<const QuantizedTensor&>(*tensor)), x, y);
  for (const float v : y) EXPECT_NEAR(v, 7.0 * 65536, 1);
}

TEST(FourBitProduct, WithZerosIsZero) {
  const auto tensor = encoded("int4 g32 asym", {4, 64});
  std::vector<float> x(64), y(4, 1.0f);
  multiply_four_bit(*four_bit_rows(*tensor), x, y);
  for (const float v : y) EXPECT_EQ(v, 0.0f);
}

TEST(FourBitProduct, IsTheSameForAnyNumberOfThreads) {
  const auto tensor = encoded("int4 g128 asym", {2000, 1024});
  const std::vector<float> x = inputs(1024);
  std::vector<float> one(2000), many(2000);
  set_thread_count(1);
  multiply_four_bit(*four_bit_rows(*tensor), x, one);
  set_thread_count(5);
  multiply_four_bit(*four_bit_rows(*tensor), x, many);
  set_thread_count(0);
  EXPECT_EQ(one, many);
}

TEST(FourBitProduct, IsOfFourBitsInGroupsOf32Alone) {
  EXPECT_FALSE(four_bit_rows(*encoded("int3 g32 sym", {2, 64})));
  EXPECT_FALSE(four_bit_rows(*encoded("int4 g16 sym", {2, 64})));
  EXPECT_FALSE(four_bit_rows(*encoded("int4 tensor sym", {2, 64})));
  EXPECT_FALSE(four_bit_rows(*encoded("gguf/q4_0", {2, 64})));
  const auto tensor = encoded("int4 g32 sym", {2, 64});
  std::vector<float> x(65), y(2);
  EXPECT_THROW(multiply_four_bit(*four_bit_rows(*tensor), x, y), Error);
}

}  // namespace
}  // namespace adze
