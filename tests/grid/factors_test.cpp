// Tensors made of others: exact bytes, values by a reader of its own, and formats that come back.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "base/parallel.h"
#include "grid/factors/pivoted_tensor.h"
#include "grid/factors/product_tensor.h"
#include "grid/factors/sum_tensor.h"
#include "grid/factors/train_tensor.h"
#include "grid/float_grid.h"
#include "grid/format.h"
#include "grid/grid_testing.h"
#include "grid/sparse/sparse_tensor.h"

namespace adze {
namespace {

using grid_testing::random_weights;
using Part = std::shared_ptr<const CompressedTensor>;

Part dense(Shape shape, const char* name, DType dtype = DType::f16) {
  return std::make_shared<DenseTensor>(make_dense(random_weights(shape, name), dtype));
}

Part quantized(const char* grid, Shape shape, const char* name) {
  return grid_testing::encode(grid_from_name(grid), random_weights(shape, name), ScaleRule::search).finish();
}

Part sparse(Shape shape, const char* name) {
  const MatrixF weights = random_weights(shape, name);
  Encoding encoding(make_float_grid(DType::f16), shape);
  const SparsityPattern half = SparsityPattern::unstructured(0.5);
  Mask mask(shape);
  for (std::size_t i = 0; i < half.zeros(shape); ++i) mask.prune(2 * i / shape.cols, 2 * i % shape.cols);
  encoding.prune(half, std::move(mask));
  grid_testing::round_all(encoding, weights);
  return encoding.finish();
}

/// In double, element by element.
MatrixD product_of(const MatrixF& a, const MatrixF& b) {
  MatrixD c(a.rows(), b.cols());
  for (std::size_t r = 0; r < a.rows(); ++r)
    for (std::size_t k = 0; k < a.cols(); ++k)
      for (std::size_t col = 0; col < b.cols(); ++col) c(r, col) += double{a(r, k)} * b(k, col);
  return c;
}

double largest_difference(const MatrixF& a, const MatrixD& b) {
  double largest = 0;
  for (std::size_t i = 0; i < a.values().size(); ++i)
    largest = std::max(largest, std::fabs(a.values()[i] - b.values()[i]));
  return largest;
}

/// Bytes and values of the tensor that the stored format and payload give.
void expect_comes_back(const CompressedTensor& tensor) {
  SCOPED_TRACE(tensor.format());
  EXPECT_EQ(format_bytes(tensor.format(), tensor.shape()), tensor.bytes());
  EXPECT_EQ(format_multiplications(tensor.format(), tensor.shape()), tensor.multiplications());
  const std::vector<std::byte> payload(tensor.payload().begin(), tensor.payload().end());
  const Part again = tensor_from_payload(tensor.format(), tensor.shape(), payload);
  EXPECT_EQ(again->format(), tensor.format());
  EXPECT_EQ(again->decode(), tensor.decode());
  EXPECT_THAT(again->payload(), ::testing::ElementsAreArray(tensor.payload()));
  std::vector<std::byte> shorter(payload.begin(), payload.end() - 1);
  EXPECT_THROW(tensor_from_payload(tensor.format(), tensor.shape(), shorter), Error);
  std::vector<std::byte> longer(payload);
  longer.push_back(std::byte{0});
  EXPECT_THROW(tensor_from_payload(tensor.format(), tensor.shape(), longer), Error);
}

TEST(ProductTensor, IsTheProductOfItsParts) {
  const Part left = dense({150, 24}, "left"), right = quantized("int8 g32 sym", {24, 96}, "right");
  const ProductTensor product(left, right);
  EXPECT_EQ(product.format(), "rank 24 [f16] [int8 g32 sym]");
  EXPECT_EQ(product.shape(), (Shape{150, 96}));
  EXPECT_EQ(product.bytes(), 150u * 24 * 2 + 24 * (96 + 3 * 2));
  EXPECT_EQ(product.multiplications(), 24u * (150 + 96));
  EXPECT_LT(largest_difference(product.decode(), product_of(left->decode(), right->decode())), 1e-6);
  expect_comes_back(product);
}

TEST(ProductTensor, GivesARowTheSameBitsHoweverItIsRead) {
  const ProductTensor product(dense({130, 40}, "left"), dense({40, 70}, "right"));
  const MatrixF whole = product.decode();
  for (const std::size_t first : {0, 1, 63, 64, 100, 129})
    for (const std::size_t count : {1, 30, 130}) {
      if (first + count > 130) continue;
      MatrixF rows(count, 70);
      product.decode_rows(first, count, rows.values());
      for (std::size_t r = 0; r < count; ++r)
        EXPECT_THAT(rows.row(r), ::testing::ElementsAreArray(whole.row(first + r))) << first << " " << r;
    }
}

TEST(ProductTensor, HoldsCoefficientsAndADictionary) {
  const Part coefficients = sparse({64, 32}, "coefficients"), atoms = dense({32, 48}, "atoms");
  const ProductTensor product(coefficients, atoms);
  EXPECT_EQ(product.format(), "rank 32 [f16, 50%] [f16]");
  EXPECT_EQ(product.bytes(), 64u * 32 / 8 + 64 * 16 * 2 + 32 * 48 * 2);
  EXPECT_EQ(product.multiplications(), 64u * 16 + 32 * 48);
  EXPECT_LT(largest_difference(product.decode(), product_of(coefficients->decode(), atoms->decode())), 1e-6);
  expect_comes_back(product);
}

TEST(ProductTensor, RefusesInnerSizesThatDiffer) {
  EXPECT_THROW(ProductTensor(dense({4, 3}, "l"), dense({4, 5}, "r")), Error);
}

TEST(PivotedTensor, HasIdentityColumnsAtItsPivots) {
  const Part rest = dense({3, 4}, "rest");
  const PivotedTensor pivoted({5, 0, 3}, rest);
  EXPECT_EQ(pivoted.format(), "pivoted f16");
  EXPECT_EQ(pivoted.shape(), (Shape{3, 7}));
  EXPECT_EQ(pivoted.bytes(), 2u + 3 * 4 * 2);  // three columns of three bits, padded
  const MatrixF values = pivoted.decode(), t = rest->decode();
  for (std::size_t r = 0; r < 3; ++r) {
    EXPECT_THAT(values.row(r), ::testing::ElementsAre(r == 1, t(r, 0), t(r, 1), r == 2, t(r, 2), r == 0, t(r, 3)));
    MatrixF row(1, 7);
    pivoted.decode_rows(r, 1, row.values());
    EXPECT_THAT(row.row(0), ::testing::ElementsAreArray(values.row(r)));
  }
  expect_comes_back(pivoted);
  expect_comes_back(ProductTensor(dense({9, 3}, "l"), std::make_shared<PivotedTensor>(pivoted)));
  expect_comes_back(PivotedTensor({1, 0}, dense({2, 0}, "none")));
}

TEST(PivotedTensor, RefusesPivotsThatAreNoColumnsOrComeTwice) {
  EXPECT_THROW(PivotedTensor({0, 0}, dense({2, 3}, "t")), Error);
  EXPECT_THROW(PivotedTensor({0, 5}, dense({2, 3}, "t")), Error);
  EXPECT_THROW(PivotedTensor({0}, dense({2, 3}, "t")), Error);
  const PivotedTensor good({1, 4}, dense({2, 3}, "t"));
  std::vector<std::byte> bytes(good.payload().begin(), good.payload().end());
  bytes[0] = std::byte{0x3F};  // both pivots 7
  EXPECT_THROW(tensor_from_payload("pivoted f16", {2, 5}, bytes), Error);
  EXPECT_THROW(format_bytes("pivoted f16", {6, 5}), Error);
}

TEST(SumTensor, IsTheSumOfItsParts) {
  const Part base = quantized("int4 g32 sym", {20, 64}, "base");
  const Part low = std::make_shared<ProductTensor>(dense({20, 8}, "l"), dense({8, 64}, "r"));
  const SumTensor sum(base, low);
  EXPECT_EQ(sum.format(), "int4 g32 sym + rank 8 [f16] [f16]");
  EXPECT_EQ(sum.bytes(), base->bytes() + low->bytes());
  EXPECT_EQ(sum.multiplications(), 20u * 64 + 8 * 84);
  const MatrixF values = sum.decode(), of_base = base->decode(), of_low = low->decode();
  for (std::size_t i = 0; i < values.values().size(); ++i)
    EXPECT_EQ(values.values()[i], of_base.values()[i] + of_low.values()[i]);
  expect_comes_back(sum);
  EXPECT_THROW(SumTensor(base, dense({20, 32}, "other")), Error);
}

TEST(SumTensor, HoldsASparseBase) {
  const Part low = std::make_shared<ProductTensor>(dense({20, 8}, "l"), quantized("int8 g32 sym", {8, 64}, "r"));
  expect_comes_back(SumTensor(sparse({20, 64}, "base"), low));
}

/// Entry by entry, with the definition.
TEST(TrainTensor, IsTheProductOfItsCoresDigitByDigit) {
  const TrainShape train{{2, 3, 2}, {3, 2, 4}, {4, 5}};
  const std::vector<Part> cores = {dense(train.core(0), "g1"), dense(train.core(1), "g2"), dense(train.core(2), "g3")};
  const TrainTensor tensor(train, cores);
  EXPECT_EQ(tensor.format(), "train 2x3x2 by 3x2x4 bonds 4x5 [f16]");
  EXPECT_EQ(tensor.shape(), (Shape{12, 24}));
  EXPECT_EQ(tensor.bytes(), 2u * (2 * 3 * 4 + 4 * 3 * 2 * 5 + 5 * 2 * 4));
  // From the first digit: 24 x 8, then 120 x 2 x 4, then 40 x 6; from the last: 24 x 6, then 120 x 2 x 3, then 40 x 6.
  EXPECT_EQ(tensor.multiplications(), std::min(24u * 8 + 120 * 2 * 4 + 40 * 6, 40u * 6 + 120 * 3 * 2 + 24 * 6));
  const MatrixF g1 = cores[0]->decode(), g2 = cores[1]->decode(), g3 = cores[2]->decode(), whole = tensor.decode();
  for (std::size_t r = 0; r < 12; ++r)
    for (std::size_t c = 0; c < 24; ++c) {
      const std::size_t i1 = r / 6, i2 = r / 2 % 3, i3 = r % 2, j1 = c / 8, j2 = c / 4 % 2, j3 = c % 4;
      double sum = 0;
      for (std::size_t a = 0; a < 4; ++a)
        for (std::size_t b = 0; b < 5; ++b)
          sum += double{g1(i1, j1 * 4 + a)} * g2(a * 3 + i2, j2 * 5 + b) * g3(b * 2 + i3, j3);
      EXPECT_NEAR(whole(r, c), sum, 1e-8);
    }
  for (std::size_t first = 0; first < 12; ++first) {
    MatrixF rows(std::min<std::size_t>(3, 12 - first), 24);
    tensor.decode_rows(first, rows.rows(), rows.values());
    for (std::size_t r = 0; r < rows.rows(); ++r)
      EXPECT_THAT(rows.row(r), ::testing::ElementsAreArray(whole.row(first + r)));
  }
  expect_comes_back(tensor);
}

TEST(TrainTensor, RefusesWhatFitsNoTrain) {
  const auto core = [](std::size_t rows, std::size_t cols) { return dense({rows, cols}, "core"); };
  EXPECT_THROW(TrainTensor({{2, 2}, {2, 2}, {3}}, {core(2, 6)}), Error);
  EXPECT_THROW(TrainTensor({{2, 2}, {2, 2}, {3}}, {core(2, 6), core(6, 3)}), Error);
  EXPECT_THROW(TrainTensor({{2, 2}, {2, 2}, {5}}, {core(2, 10), core(10, 2)}), Error);  // 4 is all it can use
  EXPECT_THROW(TrainTensor({{2, 2}, {2, 2}, {3}}, {core(2, 6), dense({6, 2}, "core", DType::bf16)}), Error);
  EXPECT_NO_THROW(TrainTensor({{2, 2}, {2, 2}, {3}}, {core(2, 6), core(6, 2)}));
  for (const char* const format :
       {"train 4x4 by 4x4 bonds 99 [f16]", "train 4x4 by 4x4 bonds 0 [f16]", "train 4x4 by 4 bonds 2 [f16]",
        "train 4x4 by 4x4 bonds 2x2 [f16]", "train 4x4 by 4x4 bonds 2 f16", "train 2x8 by 4x5 bonds 2 [f16]",
        "train 16 by 16 bonds 2 [f16]", "train 4294967296x4294967296 by 4294967296x2 bonds 2 [f16]", "train ",
        "train 4x4 by 4x4 bonds 2 [f16] "})
    EXPECT_THROW(format_bytes(format, {16, 16}), Error) << format;
  EXPECT_EQ(format_bytes("train 4x4 by 4x4 bonds 3 [f16]", {16, 16}), 2u * 2 * 16 * 3);
}

TEST(SharedTensor, TakesNoBytesAndIsAskedForWhereItIsRead) {
  const Part factor = dense({4, 12}, "shared");
  const ProductTensor product(dense({6, 4}, "left"),
                              std::make_shared<SharedTensor>("layers.0.self_attn.q_proj", factor));
  EXPECT_EQ(product.format(), "rank 4 [f16] [shared layers.0.self_attn.q_proj [f16]]");
  EXPECT_EQ(product.bytes(), 6 * 4 * 2);
  EXPECT_EQ(format_bytes(product.format(), {6, 12}), product.bytes());
  EXPECT_EQ(format_multiplications(product.format(), {6, 12}), 6 * 4 + 4 * 12);
  const std::vector<std::byte> payload(product.payload().begin(), product.payload().end());
  const Part read =
      tensor_from_payload(product.format(), {6, 12}, payload, [&](const SharedFormat& shared, Shape shape) {
        EXPECT_EQ(shared.owner, "layers.0.self_attn.q_proj");
        EXPECT_EQ(shared.format, "f16");
        EXPECT_EQ(shape, (Shape{4, 12}));
        return factor;
      });
  const MatrixF values = read->decode(), whole = product.decode();
  EXPECT_TRUE(std::ranges::equal(values.values(), whole.values()));
  EXPECT_EQ(read->format(), product.format());
  EXPECT_EQ(dense_format(product.format()), "f16");
  EXPECT_THROW(tensor_from_payload(product.format(), {6, 12}, payload), Error);  // nobody to ask
  for (const char* malformed :
       {"shared ", "shared a", "shared  [f16]", "shared a [f16", "shared a []", "shared a [shared b [f16]]"})
    EXPECT_THROW(parse_shared_format(malformed), Error) << malformed;
}

TEST(Format, BecomesDenseInTheDtypeOfItsParts) {
  EXPECT_EQ(dense_format("rank 8 [f16] [pivoted f16]"), "f16");
  EXPECT_EQ(dense_format("rank 8 [bf16, 50%] [bf16]"), "bf16");
  EXPECT_EQ(dense_format("int4 g32 sym + rank 8 [f16] [f16]"), "f16");
  EXPECT_EQ(dense_format("int4 g32 sym, 2:4"), "int4 g32 sym");
  EXPECT_EQ(dense_format("gguf/q4_k"), "gguf/q4_k");
  EXPECT_EQ(dense_format("bf16"), "bf16");
  const Part product = std::make_shared<ProductTensor>(dense({20, 8}, "l"), dense({8, 64}, "r"));
  const Part whole = densified(product);
  EXPECT_EQ(whole->format(), "f16");
  const MatrixF rounded = whole->decode(), values = product->decode();
  for (std::size_t i = 0; i < values.values().size(); ++i)
    EXPECT_NEAR(rounded.values()[i], values.values()[i], std::fabs(values.values()[i]) / 2048 + 1e-7);
  EXPECT_EQ(densified(whole), whole);
}

TEST(Format, ThatIsMalformedIsRefused) {
  for (const char* const format :
       {"rank", "rank 8", "rank 8 [f16]", "rank 8 [f16] [f16", "rank 8 f16 f16", "rank 0 [f16] [f16]",
        "rank 08 [f16] [f16]", "rank -1 [f16] [f16]", "rank 99999999999999999999 [f16] [f16]", "rank 8 [f16] [f16] ",
        "rank 17 [f16] [f16]", "rank 4611686018427387904 [f16] [f16]", "rank 8 [f17] [f16]", "pivoted", "pivoted ",
        "f16 + ", "f16 + f17", " + f16", "rank 8 [] []"})
    EXPECT_THROW(format_bytes(format, {16, 16}), Error) << format;
}

}  // namespace
}  // namespace adze
