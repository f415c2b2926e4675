#include "grid/sparse/sparse_tensor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/random.h"
#include "grid/float_grid.h"
#include "grid/format.h"
#include "grid/grid_testing.h"
#include "grid/quantized_tensor.h"
#include "grid/sparse/mask_bits.h"

namespace adze {
namespace {

using grid_testing::all_grids;
using grid_testing::random_weights;
using grid_testing::round_all;

constexpr Shape kShape{7, 512};

/// A mask of the pattern, its places drawn at random.
Mask random_mask(const SparsityPattern& pattern, Shape shape, std::uint64_t seed = 1) {
  RandomStream random(seed, "mask");
  Mask mask(shape);
  const auto prune_some = [&](std::size_t count, std::size_t of, auto&& prune) {
    std::vector<std::size_t> order(of);
    std::iota(order.begin(), order.end(), std::size_t{0});
    for (std::size_t i = 0; i < count; ++i) {
      std::swap(order[i], order[i + random.below(of - i)]);
      prune(order[i]);
    }
  };
  const std::size_t cols = shape.cols;
  const std::size_t width = pattern.block_cols();
  if (pattern.kind() == PatternKind::n_of_m) {
    for (std::size_t r = 0; r < shape.rows; ++r)
      for (std::size_t c = 0; c < cols; c += pattern.m())
        prune_some(pattern.m() - pattern.n(), pattern.m(), [&](std::size_t i) { mask.prune(r, c + i); });
  } else if (pattern.kind() == PatternKind::rows) {
    prune_some(pattern.zeros(shape) / cols, shape.rows, [&](std::size_t r) { mask.prune(r, 0, cols); });
  } else {
    prune_some(pattern.zeros(shape) / width, shape.count() / width,
               [&](std::size_t b) { mask.prune(b * width / cols, b * width % cols, width); });
  }
  return mask;
}

std::vector<SparsityPattern> patterns() {
  return {SparsityPattern::unstructured(0.5), SparsityPattern::unstructured(0.333), SparsityPattern::unstructured(0.97),
          SparsityPattern::unstructured(0),   SparsityPattern::unstructured(1),     SparsityPattern::n_of_m(2, 4),
          SparsityPattern::n_of_m(4, 8),      SparsityPattern::n_of_m(1, 4),        SparsityPattern::n_of_m(16, 32),
          SparsityPattern::blocks(0.5, 16),   SparsityPattern::blocks(0.25, 64),    SparsityPattern::rows(0.3)};
}

std::vector<std::shared_ptr<const Grid>> grids_with_zero() {
  std::vector<std::shared_ptr<const Grid>> grids{make_float_grid(DType::f16), make_float_grid(DType::bf16)};
  for (const GridRequest& request : all_grids())
    if (auto grid = make_grid(request); grid->holds_zero()) grids.push_back(std::move(grid));
  return grids;
}

Encoding encode(const std::shared_ptr<const Grid>& grid, const SparsityPattern& pattern, const MatrixF& weights) {
  Encoding encoding(grid, weights.shape());
  encoding.prune(pattern, random_mask(pattern, weights.shape()));
  encoding.fit_all(weights, std::vector<float>(weights.cols(), 1.0f), ScaleRule::search);
  round_all(encoding, weights);
  return encoding;
}

TEST(SparsityPattern, IsFoundAgainByItsText) {
  for (const SparsityPattern& pattern : patterns()) EXPECT_EQ(SparsityPattern::parse(pattern.text()), pattern);
  EXPECT_EQ(SparsityPattern::parse("50%").text(), "50%");
  EXPECT_EQ(SparsityPattern::parse("2:4").text(), "2:4");
  EXPECT_EQ(SparsityPattern::parse("12.5% in blocks of 16").text(), "12.5% in blocks of 16");
  EXPECT_EQ(SparsityPattern::parse("50% in rows").text(), "50% in rows");
}

TEST(SparsityPattern, RefusesWhatMakesNoSense) {
  for (const char* text : {"", "50", "half", "101%", "-1%", "nan%", "4:2", "4:4", "0:4", "2:64", "2:", ":4", "2:4:8",
                           "50% in blocks of 1", "50% in blocks of", "% in rows"}) {
    try {
      SparsityPattern::parse(text);
      FAIL() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_recipe) << text;
    }
  }
}

TEST(SparsityPattern, CountsExactly) {
  EXPECT_EQ(SparsityPattern::unstructured(0.5).zeros({3, 5}), 7u);
  EXPECT_EQ(SparsityPattern::unstructured(0.1).zeros({10, 10}), 10u);  // not 9 for want of binary digits
  EXPECT_EQ(SparsityPattern::n_of_m(1, 4).zeros({2, 8}), 12u);
  EXPECT_EQ(SparsityPattern::blocks(0.5, 16).zeros({3, 48}), 4u * 16);
  EXPECT_EQ(SparsityPattern::rows(0.5).zeros({5, 8}), 16u);
  EXPECT_EQ(SparsityPattern::unstructured(1).zeros({3, 5}), 15u);
}

TEST(SparsityPattern, SaysWhatWouldDivide) {
  EXPECT_FALSE(SparsityPattern::n_of_m(2, 4).cannot_hold(512));
  EXPECT_THAT(*SparsityPattern::n_of_m(4, 8).cannot_hold(20), testing::HasSubstr("m = 5 does"));
  EXPECT_THAT(*SparsityPattern::blocks(0.5, 16).cannot_hold(24), testing::HasSubstr("block: 12 does"));
  EXPECT_FALSE(SparsityPattern::unstructured(0.5).cannot_hold(17));
}

TEST(Mask, IsStoredAndReadBackForEveryPattern) {
  for (const SparsityPattern& pattern : patterns()) {
    const Mask mask = random_mask(pattern, kShape);
    ASSERT_EQ(pattern_problem(mask, pattern), std::nullopt) << pattern.text();
    std::vector<std::byte> bytes(mask_bytes(pattern, kShape));
    write_mask(mask, pattern, bytes);
    EXPECT_EQ(read_mask(bytes, pattern, kShape), mask) << pattern.text();
  }
}

TEST(Mask, TakesTheSmallerOfBitsAndColumns) {
  const std::uint64_t bits = kShape.rows * kShape.cols / 8;
  EXPECT_EQ(mask_bytes(SparsityPattern::unstructured(0.5), kShape), bits);
  const std::uint64_t kept = kShape.count() - SparsityPattern::unstructured(0.97).zeros(kShape);
  EXPECT_EQ(mask_bytes(SparsityPattern::unstructured(0.97), kShape), kShape.rows * 4 + 2 * kept);
  EXPECT_EQ(mask_bytes(SparsityPattern::n_of_m(2, 4), kShape), bits * 3 / 4);  // 3 bits for each of 6 subsets
  EXPECT_EQ(mask_bytes(SparsityPattern::n_of_m(1, 4), kShape), bits * 2 / 4);
  EXPECT_EQ(mask_bytes(SparsityPattern::blocks(0.5, 16), kShape), bits / 16);
  EXPECT_EQ(mask_bytes(SparsityPattern::rows(0.3), kShape), 1u);
}

TEST(Mask, BytesThatAreNoMaskOfThePatternAreRefused) {
  const auto refuses = [](const SparsityPattern& pattern, std::size_t at, std::byte flip) {
    std::vector<std::byte> bytes(mask_bytes(pattern, kShape));
    write_mask(random_mask(pattern, kShape), pattern, bytes);
    bytes[at] ^= flip;
    EXPECT_THROW(read_mask(bytes, pattern, kShape), Error) << pattern.text();
  };
  refuses(SparsityPattern::unstructured(0.5), 3, std::byte{4});                        // one zero more or less
  refuses(SparsityPattern::unstructured(0.97), 0, std::byte{1});                       // a row's count
  refuses(SparsityPattern::unstructured(0.97), 3, std::byte{0x7F});                    // a count beyond everything
  refuses(SparsityPattern::unstructured(0.97), kShape.rows * 4 + 1, std::byte{0x80});  // a column that is not there
  refuses(SparsityPattern::blocks(0.5, 16), 0, std::byte{1});
  refuses(SparsityPattern::rows(0.3), 0, std::byte{2});
  std::vector<std::byte> bytes(mask_bytes(SparsityPattern::n_of_m(2, 4), kShape), std::byte{0xFF});  // subset 7 of 6
  EXPECT_THROW(read_mask(bytes, SparsityPattern::n_of_m(2, 4), kShape), Error);
}

TEST(SparseTensor, KeepsValuesAndMaskOfEveryGridAndPattern) {
  const MatrixF weights = random_weights(kShape, "sparse");
  for (const auto& grid : grids_with_zero())
    for (const SparsityPattern& pattern : patterns()) {
      Encoding encoding = encode(grid, pattern, weights);
      const auto stored = std::dynamic_pointer_cast<const SparseTensor>(encoding.finish());
      ASSERT_NE(stored, nullptr);
      SCOPED_TRACE(stored->format());
      EXPECT_EQ(stored->mask(), encoding.mask());
      EXPECT_EQ(stored->bytes(), sparse_bytes(*grid, pattern, kShape));
      EXPECT_EQ(stored->bytes(), format_bytes(stored->format(), kShape));
      const MatrixF decoded = stored->decode();
      for (std::size_t r = 0; r < kShape.rows; ++r)
        for (std::size_t c = 0; c < kShape.cols; ++c) {
          ASSERT_EQ(decoded(r, c), encoding.kept(r, c) ? encoding.value(r, c) : 0.0f) << r << " " << c;
          if (!encoding.kept(r, c)) {
            ASSERT_EQ(encoding.value(r, c), 0.0f) << r << " " << c;
          }
        }
      EXPECT_EQ(stored->dense()->decode(), decoded);
      EXPECT_EQ(stored->dense()->format(), dense_format(stored->format()));
      const auto payload = stored->payload();
      const auto again =
          tensor_from_payload(stored->format(), kShape, std::vector<std::byte>(payload.begin(), payload.end()));
      EXPECT_EQ(again->decode(), decoded);
    }
}

TEST(SparseTensor, TakesTheBytesOfTheSpecification) {
  const Shape square{4096, 4096};
  const double weights = 4096.0 * 4096;
  const auto bits = [&](const char* grid, const char* pattern) {
    const auto values = value_grid_from_name(grid);
    return 8.0 * static_cast<double>(sparse_bytes(*values, SparsityPattern::parse(pattern), square)) / weights;
  };
  EXPECT_NEAR(bits("int4 channel sym", "50%"), 3.0, 0.01);
  EXPECT_NEAR(bits("int4 channel sym", "2:4"), 2.75, 0.01);
  EXPECT_NEAR(bits("int4 channel sym", "4:8"), 2.0 + 7.0 / 8, 0.01);
  EXPECT_NEAR(bits("int4 g16 sym", "50% in blocks of 16"), 0.5 * (4 + 16.0 / 16) + 1.0 / 16, 1e-6);
  EXPECT_NEAR(bits("f16", "50%"), 9.0, 1e-6);
}

TEST(SparseTensor, RefusesPayloadsOfAnotherSize) {
  const auto grid = grid_from_name("int4 g64 sym");
  const auto stored = encode(grid, SparsityPattern::unstructured(0.5), random_weights(kShape, "size")).finish();
  std::vector<std::byte> payload(stored->payload().begin(), stored->payload().end());
  payload.pop_back();
  EXPECT_THROW(tensor_from_payload(stored->format(), kShape, payload), Error);
  payload.resize(payload.size() + 2);
  EXPECT_THROW(tensor_from_payload(stored->format(), kShape, payload), Error);
}

TEST(SparseTensor, UnknownFormatsAreRefused) {
  for (const char* format :
       {"int4 g64 sym, 4:2", "int4 g64 sym, half", "int4 g64 sym,50%", "q17, 50%", "f32, 50%", "int4 g64 sym, 50.0%"})
    EXPECT_THROW(format_bytes(format, kShape), Error) << format;
  EXPECT_THROW(format_bytes("gguf/q4_k, 50%", kShape), Error);     // no zero in every group
  EXPECT_THROW(format_bytes("int4 g64 sym, 3:7", kShape), Error);  // does not divide
}

TEST(Encoding, FitsScalesToTheWeightsThatAreLeft) {
  MatrixF weights(1, 64);
  for (std::size_t c = 0; c < 64; ++c) weights(0, c) = c % 2 == 0 ? 100.0f : 0.1f * static_cast<float>(c % 7);
  Encoding encoding(grid_from_name("int8 g64 sym"), weights.shape());
  Mask mask(weights.shape());
  for (std::size_t c = 0; c < 64; c += 2) mask.prune(0, c);
  encoding.prune(SparsityPattern::unstructured(0.5), mask);
  encoding.fit_all(weights, std::vector<float>(64, 1.0f), ScaleRule::search);
  round_all(encoding, weights);
  for (std::size_t c = 1; c < 64; c += 2) EXPECT_NEAR(encoding.value(0, c), weights(0, c), 0.005);
}

TEST(Encoding, AMaskThatHasNotThePatternIsOurMistake) {
  Encoding encoding(grid_from_name("int4 g64 sym"), kShape);
  encoding.prune(SparsityPattern::n_of_m(2, 4), Mask(kShape));
  try {
    encoding.finish();
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::internal);
  }
}

TEST(FloatGrid, StoresTheNearestFloats) {
  const MatrixF weights = random_weights({2, 8}, "floats");
  Encoding encoding(make_float_grid(DType::bf16), weights.shape());
  encoding.fit_all(weights, std::vector<float>(8, 1.0f), ScaleRule::search);
  round_all(encoding, weights);
  const auto stored = encoding.finish();
  EXPECT_EQ(stored->format(), "bf16");
  EXPECT_EQ(stored->decode(), make_dense(weights, DType::bf16).decode());
}

}  // namespace
}  // namespace adze
