// What is particular to single grids: golden blocks, byte counts, names and their errors.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/random.h"
#include "grid/quantized_tensor.h"

namespace adze {
namespace {

/// A golden block of the GGUF fact sheet, section 5.20: b[k] = (37 k + 11) mod 256, then d = 0.0625, dmin = 0.03125.
struct Golden {
  const char* grid;
  std::size_t cols;
  std::size_t bytes;
  std::vector<std::size_t> floats_at;  ///< d, then dmin or m
  std::vector<float> first;
  std::vector<float> middle;
  std::vector<float> last;
  double sum;
  double weighted_sum;

  std::vector<std::byte> block() const {
    std::vector<std::byte> all(bytes);
    for (std::size_t k = 0; k < bytes; ++k) all[k] = static_cast<std::byte>((37 * k + 11) % 256);
    const std::array<std::uint16_t, 2> halves{0x2C00, 0x2800};
    for (std::size_t i = 0; i < floats_at.size(); ++i) std::memcpy(all.data() + floats_at[i], &halves[i], 2);
    if (floats_at.empty()) all[0] = std::byte{0x7B};  // an exponent
    return all;
  }
};

const std::vector<Golden>& goldens() {
  static const std::vector<Golden> all{{"gguf/q4_0",
                                        32,
                                        18,
                                        {0},
                                        {-0.1875, 0.125, 0.4375, -0.25},
                                        {-0.1875, -0.0625, 0.0625, 0.25},
                                        {-0.4375, -0.3125, -0.1875, 0},
                                        -1.3125,
                                        -32.375},
                                       {"gguf/q4_1",
                                        32,
                                        20,
                                        {0, 2},
                                        {0.96875, 0.28125, 0.59375, 0.90625},
                                        {0.59375, 0.78125, 0.90625, 0.03125},
                                        {0.34375, 0.53125, 0.65625, 0.78125},
                                        16.3125,
                                        265.4375},
                                       {"gguf/q5_0",
                                        32,
                                        22,
                                        {0},
                                        {0.5625, -0.125, 0.1875, -0.5},
                                        {0.875, 0, 0.1875, 0.3125},
                                        {-0.375, -0.25, 0.875, 0.0625},
                                        0.9375,
                                        7},
                                       {"gguf/q5_1",
                                        32,
                                        24,
                                        {0, 2},
                                        {1.21875, 1.53125, 1.84375, 1.15625},
                                        {1.21875, 0.34375, 0.46875, 1.65625},
                                        {0.90625, 0.09375, 0.21875, 0.34375},
                                        32.5625,
                                        510.3125},
                                       {"gguf/q8_0",
                                        32,
                                        34,
                                        {0},
                                        {5.3125, 7.625, -6.0625, -3.75},
                                        {-5.6875, -3.375, -1.0625, 1.25},
                                        {6.0625, -7.625, -5.3125, -3},
                                        -11,
                                        -505},
                                       {"gguf/q2_k",
                                        256,
                                        84,
                                        {80, 82},
                                        {2.0625, 0, 0.6875, 1.375},
                                        {0.46875, -0.09375, 0.09375, 0.28125},
                                        {-0.09375, -0.09375, 0.28125, 0.28125},
                                        128.6875,
                                        15195.625},
                                       {"gguf/q3_k",
                                        256,
                                        110,
                                        {108},
                                        {5.0625, -6.75, 1.6875, -3.375},
                                        {0.125, 0, -0.125, -0.25},
                                        {-2.625, -2.625, -1.75, 2.625},
                                        59.875,
                                        11071.5625},
                                       {"gguf/q4_k",
                                        256,
                                        144,
                                        {0, 2},
                                        {19.71875, -1.59375, 8.09375, 17.78125},
                                        {26.4375, -0.375, 11.8125, 24},
                                        {0.40625, 1.15625, 2.28125, 3.03125},
                                        3402.5,
                                        473302.5},
                                       {"gguf/q5_k",
                                        256,
                                        176,
                                        {0, 2},
                                        {50.71875, -1.59375, 39.09375, 17.78125},
                                        {65.4375, -0.375, 11.8125, 24},
                                        {4.15625, 4.90625, 6.03125, 6.78125},
                                        7263.5,
                                        1001715.5},
                                       {"gguf/q6_k",
                                        256,
                                        210,
                                        {208},
                                        {-89.4375, 106, 36.4375, -33.125},
                                        {-21.9375, 26, 8.9375, -8.125},
                                        {10.625, 9.375, -2.5, -3.75},
                                        288.25,
                                        49026.25},
                                       {"gguf/iq4_nl",
                                        32,
                                        18,
                                        {0},
                                        {-2.1875, 1.5625, 7.0625, -3.0625},
                                        {-2.1875, -0.625, 0.8125, 3.3125},
                                        {-6.5, -4.0625, -2.1875, 0.0625},
                                        -16.0625,
                                        -432.4375},
                                       {"gguf/iq4_xs",
                                        256,
                                        136,
                                        {0},
                                        {4.0625, -0.0625, -4.3125, 5.1875},
                                        {-36.5625, 0.5625, 38.8125, -46.6875},
                                        {104, 49, 22, -1},
                                        -687.8125,
                                        -130695.875},
                                       {"gguf/tq1_0",
                                        256,
                                        54,
                                        {52},
                                        {-0.0625, -0.0625, -0.0625, 0},
                                        {0, -0.0625, 0.0625, 0},
                                        {0, 0, -0.0625, -0.0625},
                                        -0.125,
                                        -8.1875},
                                       {"gguf/tq2_0",
                                        256,
                                        66,
                                        {64},
                                        {0.125, -0.0625, 0, 0.0625},
                                        {0.125, -0.0625, 0, 0.0625},
                                        {0.0625, 0.125, -0.0625, -0.0625},
                                        8.0625,
                                        1077.8125},
                                       {"gguf/mxfp4",
                                        32,
                                        17,
                                        {},
                                        {0, 0.1875, -0.0625, -0.375},
                                        {0.09375, 0.1875, 0.375, -0.03125},
                                        {-0.25, 0.03125, 0.09375, 0.1875},
                                        0.78125,
                                        19.9375}};
  return all;
}

TEST(GgufGrids, DecodeTheGoldenBlocks) {
  for (const Golden& golden : goldens()) {
    SCOPED_TRACE(golden.grid);
    const MatrixF x = QuantizedTensor(grid_from_name(golden.grid), {1, golden.cols}, golden.block()).decode();
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

std::vector<std::byte> packed_again(const QuantizedTensor& tensor) {
  const Grid& grid = tensor.grid();
  const std::size_t cols = tensor.shape().cols;
  std::vector<std::int16_t> codes(cols);
  std::vector<std::byte> side(grid.units(cols) * grid.side_bytes());
  grid.unpack_row(tensor.row(0), codes, side);
  std::vector<std::byte> packed(grid.row_bytes(cols), std::byte{0xA5});
  grid.pack_row(codes, side, packed);
  return packed;
}

TEST(GgufGrids, PackWhatTheyUnpackedToTheSameBytes) {
  RandomStream random(5, "blocks");
  for (const Golden& golden : goldens()) {
    if (std::string_view(golden.grid) == "gguf/tq1_0") continue;  // 13 of 256 bytes stand for no trits
    for (int i = 0; i < 200; ++i) {
      std::vector<std::byte> block(golden.bytes);
      for (std::byte& byte : block) byte = static_cast<std::byte>(random.below(256));
      const QuantizedTensor tensor(grid_from_name(golden.grid), {1, golden.cols}, block);
      ASSERT_THAT(packed_again(tensor), testing::ElementsAreArray(block)) << golden.grid;
    }
  }
}

TEST(GgufGrids, PackAllTrits) {
  const auto grid = grid_from_name("gguf/tq1_0");
  RandomStream random(6, "trits");
  for (int i = 0; i < 200; ++i) {
    std::vector<std::int16_t> codes(256);
    for (std::int16_t& code : codes) code = static_cast<std::int16_t>(static_cast<int>(random.below(3)) - 1);
    std::vector<std::byte> side{std::byte{1}, std::byte{2}};
    std::vector<std::byte> block(54);
    grid->pack_row(codes, side, block);
    std::vector<std::int16_t> unpacked(256);
    std::vector<std::byte> side_again(2);
    grid->unpack_row(block, unpacked, side_again);
    EXPECT_EQ(unpacked, codes);
    EXPECT_EQ(side_again, side);
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
  const std::vector<std::pair<const char*, double>> blocks{
      {"gguf/q4_0", 4.5},   {"gguf/q4_1", 5.0},     {"gguf/q5_0", 5.5},    {"gguf/q5_1", 6.0},
      {"gguf/q8_0", 8.5},   {"gguf/q2_k", 2.625},   {"gguf/q3_k", 3.4375}, {"gguf/q4_k", 4.5},
      {"gguf/q5_k", 5.5},   {"gguf/q6_k", 6.5625},  {"gguf/iq4_nl", 4.5},  {"gguf/iq4_xs", 4.25},
      {"gguf/mxfp4", 4.25}, {"gguf/tq1_0", 1.6875}, {"gguf/tq2_0", 2.0625}};
  for (const auto& [name, bits] : blocks)
    EXPECT_DOUBLE_EQ(bits_per_weight({name, std::nullopt, "group", std::nullopt, "f16"}, square), bits) << name;
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
  for (const char* const name : {"q4_k", "Q4_K", "GGUF/Q4_K"})
    EXPECT_THAT(error_of({name, {}, "group", {}, "f16"}), HasSubstr("did you mean 'gguf/q4_k'?")) << name;
  EXPECT_THAT(error_of({"INT4", {}, "group", {}, "f16"}), HasSubstr("did you mean 'int4'?"));
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
  const std::vector<std::pair<const char*, const char*>> substitutes{
      {"gguf/q2_k", "gguf/q4_0"},  {"gguf/q3_k", "gguf/q4_0"},    {"gguf/tq1_0", "gguf/q4_0"},
      {"gguf/tq2_0", "gguf/q4_0"}, {"gguf/q4_k", "gguf/q5_0"},    {"gguf/q5_k", "gguf/q5_1"},
      {"gguf/q6_k", "gguf/q8_0"},  {"gguf/iq4_xs", "gguf/iq4_nl"}};
  for (const auto& [name, substitute] : substitutes)
    EXPECT_THAT(*grid_from_name(name)->cannot_hold(288), testing::HasSubstr(std::string(substitute) + " fits"));
  EXPECT_THAT(*grid_from_name("gguf/q4_k")->cannot_hold(100), testing::HasSubstr("store: f16"));
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
