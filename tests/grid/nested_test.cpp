// Nested codes as bytes: views by the formula from the integers they were made of, prefixes, what is refused.
#include "grid/nested/nested_tensor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "grid/format.h"
#include "grid/grid_testing.h"
#include "grid/integer/integer_matrix.h"

namespace adze {
namespace {

using grid_testing::random_weights;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;

std::shared_ptr<const QuantizedTensor> integers(const std::string& grid, Shape shape) {
  return std::dynamic_pointer_cast<const QuantizedTensor>(
      grid_testing::encode(grid_from_name(grid), random_weights(shape, grid), ScaleRule::minmax).finish());
}

std::string refusal(const std::string& format, Shape shape, std::vector<std::byte> payload) {
  try {
    tensor_from_payload(format, shape, std::move(payload));
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_data);
    return error.message();
  }
  return "";
}

const std::vector<const char*> kGrids{"int8 g64 asym",     "int8 g32 sym",     "int4 g32 asym bf16", "int3 g64 asym",
                                      "int6 channel asym", "int5 channel sym", "int2 g32 sym f32"};

TEST(NestedTensor, ViewsAreTheMiddleOfWhatTheirBitsLeaveOpen) {
  for (const char* grid : kGrids) {
    const Shape shape{7, 192};
    const auto whole = integers(grid, shape);
    const IntegerMatrix matrix = unpack_integers(*whole);
    const std::vector<float> scales = scales_of(matrix);
    for (int bits = 1; bits <= matrix.spec.bits; ++bits) {
      const MatrixF view = NestedTensor::from_integers(*whole, bits).decode();
      const int rest = matrix.spec.bits - bits, bin = 1 << rest;
      for (std::size_t r = 0; r < shape.rows; ++r) {
        const std::vector<std::uint8_t> codes = matrix.unpacked_row(r);
        for (std::size_t c = 0; c < shape.cols; ++c) {
          const std::size_t group = r * matrix.groups() + c / matrix.group_cols();
          const double level = codes[c] / bin * bin + (bin - 1) / 2.0;
          const double value = scales[group] * (level - matrix.zeros[group]);
          ASSERT_NEAR(view(r, c), value, 1e-5 * std::fabs(scales[group]) * 256) << grid << " " << bits;
        }
      }
    }
  }
}

TEST(NestedTensor, WithAllItsPlanesIsTheMatrixOfIntegers) {
  for (const char* grid : kGrids) {
    const auto whole = integers(grid, {5, 192});
    const NestedTensor nested = NestedTensor::from_integers(*whole, whole->grid().code_bits());
    EXPECT_EQ(nested.decode(), whole->decode()) << grid;
    EXPECT_THAT(nested.integers().payload(), ElementsAreArray(whole->payload())) << grid;
  }
}

TEST(NestedTensor, HasSmallerOnesAsItsFirstBytes) {
  for (const char* grid : kGrids) {
    const Shape shape{6, 192};
    const auto whole = integers(grid, shape);
    const int bits = whole->grid().code_bits();
    const NestedTensor nested = NestedTensor::from_integers(*whole, bits);
    double before = INFINITY;
    for (int planes = 1; planes <= bits; ++planes) {
      const NestedTensor view = nested.prefix(planes);
      EXPECT_THAT(view.payload(), ElementsAreArray(nested.payload().first(view.bytes())));
      EXPECT_THAT(view.payload(), ElementsAreArray(NestedTensor::from_integers(*whole, planes).payload()));
      EXPECT_EQ(view.format(), std::string("planes ") + std::to_string(planes) + " of " + grid);
      EXPECT_EQ(view.bytes(), format_bytes(view.format(), shape));
      const auto again = tensor_from_payload(view.format(), shape,
                                             std::vector<std::byte>(view.payload().begin(), view.payload().end()));
      EXPECT_EQ(again->decode(), view.decode());
      EXPECT_EQ(again->format(), view.format());
      const double error = grid_testing::squared_error(view.decode(), random_weights(shape, grid));
      EXPECT_LT(error, before) << grid << " " << planes;
      before = error;
    }
  }
}

TEST(NestedTensor, HasBytesAsDocumented) {
  // One row of 16 codes of 2 bits, scale 1 in f32: codes 0 1 2 3 0 1 2 3 ... less 2.
  MatrixF weights(1, 16);
  for (std::size_t c = 0; c < 16; ++c) weights(0, c) = static_cast<float>(c % 4) - 2.0f;
  const auto grid = grid_from_name("int2 channel sym f32");
  std::vector<std::byte> payload(8, std::byte{0xE4});  // 3 2 1 0, lowest first
  const float scale = 1;
  std::memcpy(payload.data(), &scale, 4);
  const QuantizedTensor whole(grid, {1, 16}, payload);
  ASSERT_EQ(whole.decode(), weights);
  const NestedTensor nested = NestedTensor::from_integers(whole, 2);
  const std::vector<std::byte> expected{payload[0],      payload[1],      payload[2],      payload[3],
                                        std::byte{0xCC}, std::byte{0xCC}, std::byte{0xAA}, std::byte{0xAA}};
  EXPECT_THAT(nested.payload(), ElementsAreArray(expected));
  EXPECT_EQ(nested.prefix(1).decode()(0, 0), -1.5f);
  EXPECT_EQ(nested.prefix(1).decode()(0, 3), 0.5f);
}

TEST(NestedTensor, ExportsAsFloats) {
  const auto nested =
      std::make_shared<NestedTensor>(NestedTensor::from_integers(*integers("int8 g32 sym", {4, 64}), 4));
  EXPECT_TRUE(is_composed(nested->format()));
  EXPECT_EQ(dense_format(nested->format()), "f16");
  EXPECT_EQ(densified(nested)->decode(), make_dense(nested->decode(), DType::f16).decode());
  EXPECT_EQ(format_multiplications(nested->format(), {4, 64}), 256u);
}

TEST(NestedTensor, WithAnotherNameOrSizeIsRefused) {
  for (const char* format :
       {"planes", "planes ", "planes 4", "planes 4 of", "planes of int8 g32 sym", "planes 0 of int8 g32 sym",
        "planes 9 of int8 g32 sym", "planes 5 of int4 g32 sym", "planes -1 of int8 g32 sym",
        "planes 04 of int8 g32 sym", "planes 4 of int8 tensor sym", "planes 4 of gguf/q4_0", "planes 4 of f16",
        "planes 4 of planes 4 of int8 g32 sym", "planes 99999999999 of int8 g32 sym", "planes 4 of int8 g32 sym "})
    EXPECT_NE(refusal(format, {4, 64}, std::vector<std::byte>(144)), "") << format;
  EXPECT_EQ(refusal("planes 4 of int8 g32 sym", {4, 64}, std::vector<std::byte>(144)), "");
  EXPECT_THAT(refusal("planes 4 of int8 g32 sym", {4, 64}, std::vector<std::byte>(143)), HasSubstr("take 144 bytes"));
  EXPECT_THAT(refusal("planes 4 of int8 g32 sym", {4, 65}, std::vector<std::byte>(144)), HasSubstr("do not divide"));
  EXPECT_NE(refusal("planes 4 of int8 g32 sym", {std::size_t{1} << 62, 64}, {}), "");
}

TEST(NestedTensor, HasNoPlanesButItsOwn) {
  const auto whole = integers("int4 g32 sym", {2, 64});
  const NestedTensor two = NestedTensor::from_integers(*whole, 2);
  EXPECT_THROW(two.prefix(3), Error);
  EXPECT_THROW(two.prefix(0), Error);
  EXPECT_THROW(two.integers(), Error);
  EXPECT_THROW(NestedTensor::from_integers(*whole, 5), Error);
  EXPECT_THROW(NestedTensor::from_integers(*integers("gguf/q4_0", {2, 64}), 2), Error);
}

}  // namespace
}  // namespace adze
