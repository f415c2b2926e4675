// What is particular to single grids: golden blocks, byte counts, names and their errors.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "base/error.h"
#include "grid/quantized_tensor.h"

namespace adze {
namespace {

/// The golden block of the GGUF fact sheet, section 5.20: b[k] = (37 k + 11) mod 256, then d = 0.0625, dmin = 0.03125.
std::vector<std::byte> golden_block(std::size_t bytes, bool with_min) {
  std::vector<std::byte> block(bytes);
  for (std::size_t k = 0; k < bytes; ++k) block[k] = static_cast<std::byte>((37 * k + 11) % 256);
  const std::uint16_t d = 0x2C00;
  const std::uint16_t dmin = 0x2800;
  std::memcpy(block.data(), &d, 2);
  if (with_min) std::memcpy(block.data() + 2, &dmin, 2);
  return block;
}

struct Golden {
  const char* grid;
  std::size_t cols;
  std::size_t bytes;
  bool with_min;
  std::vector<float> first;
  std::vector<float> middle;
  std::vector<float> last;
  double sum;
  double weighted_sum;
};

TEST(GgufGrids, DecodeTheGoldenBlocks) {
  const std::vector<Golden> goldens{{"gguf/q4_0",
                                     32,
                                     18,
                                     false,
                                     {-0.1875, 0.125, 0.4375, -0.25},
                                     {-0.1875, -0.0625, 0.0625, 0.25},
                                     {-0.4375, -0.3125, -0.1875, 0},
                                     -1.3125,
                                     -32.375},
                                    {"gguf/q8_0",
                                     32,
                                     34,
                                     false,
                                     {5.3125, 7.625, -6.0625, -3.75},
                                     {-5.6875, -3.375, -1.0625, 1.25},
                                     {6.0625, -7.625, -5.3125, -3},
                                     -11,
                                     -505},
                                    {"gguf/q4_k",
                                     256,
                                     144,
                                     true,
                                     {19.71875, -1.59375, 8.09375, 17.78125},
                                     {26.4375, -0.375, 11.8125, 24},
                                     {0.40625, 1.15625, 2.28125, 3.03125},
                                     3402.5,
                                     473302.5}};
  for (const Golden& golden : goldens) {
    SCOPED_TRACE(golden.grid);
    const QuantizedTensor tensor(grid_from_name(golden.grid), {1, golden.cols},
                                 golden_block(golden.bytes, golden.with_min));
    const MatrixF x = tensor.decode();
    double sum = 0;
    double weighted = 0;
    for (std::size_t i = 0; i < golden.cols; ++i) {
      sum += x(0, i);
      weighted += static_cast<double>(i + 1) * x(0, i);
    }
    EXPECT_EQ(sum, golden.sum);
    EXPECT_EQ(weighted, golden.weighted_sum);
    for (std::size_t i = 0; i < 4; ++i) {
      EXPECT_EQ(x(0, i), golden.first[i]);
      EXPECT_EQ(x(0, golden.cols / 2 + i), golden.middle[i]);
      EXPECT_EQ(x(0, golden.cols - 4 + i), golden.last[i]);
    }
  }
}

double bits_per_weight(const GridRequest& request, Shape shape) {
  return 8.0 * static_cast<double>(make_grid(request)->bytes(shape)) / static_cast<double>(shape.count());
}

TEST(Grids, CountBitsAsThePublishedTablesDo) {
  const Shape square{4096, 4096};
  EXPECT_DOUBLE_EQ(bits_per_weight({"int4", 128, "group", true, "f16"}, square), 4.125);
  EXPECT_DOUBLE_EQ(bits_per_weight({"int4", 128, "group", false, "f16"}, square), 4.15625);
  EXPECT_NEAR(bits_per_weight({"int3", 128, "group", false, "f16"}, square), 3.148, 0.001);
  EXPECT_NEAR(bits_per_weight({"int2", 64, "group", false, "f16"}, square), 2.281, 0.001);
  EXPECT_DOUBLE_EQ(bits_per_weight({"int8", std::nullopt, "channel", true, "f16"}, square), 8 + 16.0 / 4096);
  EXPECT_DOUBLE_EQ(bits_per_weight({"gguf/q4_k", std::nullopt, "group", std::nullopt, "f16"}, square), 4.5);
  EXPECT_DOUBLE_EQ(bits_per_weight({"gguf/q8_0", std::nullopt, "group", std::nullopt, "f16"}, square), 8.5);
}

std::string error_of(const GridRequest& request) {
  try {
    make_grid(request);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_recipe);
    return error.message();
  }
  return "no error";
}

TEST(Grids, SayWhatIsWrongWithARequest) {
  using testing::HasSubstr;
  EXPECT_THAT(error_of({"gguf/q4k", {}, "group", {}, "f16"}), HasSubstr("did you mean 'gguf/q4_"));
  EXPECT_THAT(error_of({"int7", 128, "group", true, "f16"}), HasSubstr("unknown grid 'int7'"));
  EXPECT_THAT(error_of({"gguf/q4_k", 128, "group", {}, "f16"}), HasSubstr("takes no group"));
  EXPECT_THAT(error_of({"int4", 1, "group", true, "f16"}), HasSubstr("between 2"));
  EXPECT_THAT(error_of({"int4", 128, "channel", true, "f16"}), HasSubstr("has no groups"));
  EXPECT_THAT(error_of({"int4", 128, "blob", true, "f16"}), HasSubstr("'blob'"));
  EXPECT_THAT(error_of({"int4", 128, "group", true, "i8"}), HasSubstr("f16, bf16 or f32"));
  EXPECT_THROW(grid_from_name("int4 g128"), Error);
  EXPECT_THROW(grid_from_name("int4 gx sym"), Error);
  EXPECT_THROW(grid_from_name(""), Error);
}

TEST(Grids, NameTheNearestChoiceWhenARowDoesNotDivide) {
  EXPECT_THAT(*grid_from_name("gguf/q4_k")->cannot_hold(288), testing::HasSubstr("gguf/q4_0 fits"));
  EXPECT_THAT(*grid_from_name("int4 g128 sym")->cannot_hold(96), testing::HasSubstr("group: 32 does"));
}

TEST(DenseTensor, RoundsToNearestEvenAndRefusesF16Overflow) {
  MatrixF weights(1, 3);
  weights(0, 0) = 1.0f + 0x1p-8f;  // a tie between two bf16 neighbours
  weights(0, 1) = -3.5f;
  const DenseTensor stored = make_dense(weights, DType::bf16);
  EXPECT_EQ(stored.bytes(), 6u);
  EXPECT_EQ(stored.decode()(0, 0), 1.0f);
  EXPECT_EQ(stored.decode()(0, 1), -3.5f);
  weights(0, 2) = 70000.0f;
  EXPECT_THROW(make_dense(weights, DType::f16), Error);
  EXPECT_THROW(DenseTensor(DType::bf16, {1, 3}, std::vector<std::byte>(5)), Error);
  EXPECT_THROW(DenseTensor(DType::i8, {1, 3}, std::vector<std::byte>(3)), Error);
}

}  // namespace
}  // namespace adze
