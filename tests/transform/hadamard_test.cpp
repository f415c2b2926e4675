#include "transform/hadamard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/parallel.h"
#include "metrics/proxy_loss.h"
#include "model/memory_source.h"
#include "transform/dense_rotation.h"

namespace adze {
namespace {

using ::testing::AllOf;
using testing::dense_rotation;
using testing::dense_rotation_row;
using ::testing::DoubleNear;
using ::testing::HasSubstr;
using testing::identity;
using testing::largest_difference;
using ::testing::Pointwise;
using testing::product;
using testing::random_double;
using testing::random_matrix;
using testing::transposed;

/// A length and the core it must be made of.
struct Length {
  std::size_t n, core;
};

constexpr Length kDenseLengths[] = {{1, 1},   {2, 1},   {4, 1},   {64, 1},   {256, 1}, {12, 12},
                                    {24, 12}, {96, 12}, {20, 20}, {80, 20},  {28, 28}, {224, 28},
                                    {36, 36}, {72, 36}, {60, 60}, {120, 60}, {48, 12}, {112, 28}};

/// The hidden sizes and head sizes of models that people compress.
constexpr std::size_t kModelLengths[] = {576,  768,  896,  960,  1024, 1152, 1280, 1536, 2048, 2560,
                                         3072, 3584, 4096, 5120, 6144, 7168, 7680, 8192, 128,  16384};

TEST(HadamardCore, HasEntriesOfOneAndOrthogonalRowsAndColumns) {
  for (const std::size_t order : {1, 12, 20, 28, 36, 60}) {
    const MatrixD h = hadamard_core(order);
    ASSERT_EQ(h.shape(), (Shape{order, order}));
    for (const double value : h.values()) ASSERT_TRUE(value == 1.0 || value == -1.0) << order;
    MatrixD expected = identity(order);
    for (double& value : expected.values()) value *= static_cast<double>(order);
    EXPECT_EQ(product(h, transposed(h)), expected) << order;  // small integers: exact
    EXPECT_EQ(product(transposed(h), h), expected) << order;
  }
}

TEST(HadamardCore, RefusesOtherOrders) {
  for (const std::size_t order : {0, 2, 24, 92}) EXPECT_THROW(hadamard_core(order), Error) << order;
}

TEST(RandomHadamard, IsOrthogonal) {
  for (const auto [n, core] : kDenseLengths) {
    MatrixD q = identity(n);
    RandomHadamard(n, 3, "q").rotate_rows(q.view());
    EXPECT_LT(largest_difference(product(transposed(q), q), identity(n)), 1e-12) << n;
    EXPECT_LT(largest_difference(product(q, transposed(q)), identity(n)), 1e-12) << n;
  }
}

TEST(RandomHadamard, IsTheDenseProduct) {
  for (const auto [n, core] : kDenseLengths) {
    const RandomHadamard rotation(n, 3, "q");
    const MatrixD q = dense_rotation(n, core, 3, "q");
    const MatrixD x = random_double({5, n}, "x");
    MatrixD forward = x, back = x;
    rotation.rotate_rows(forward.view());
    rotation.rotate_rows_back(back.view());
    EXPECT_LT(largest_difference(forward, product(x, q)), 1e-13) << n;
    EXPECT_LT(largest_difference(back, product(x, transposed(q))), 1e-13) << n;
  }
}

TEST(RandomHadamard, HasTheRowsOfTheDenseProductWhereItIsTooLargeToForm) {
  for (const auto [n, core] : {Length{8192, 1}, Length{5120, 20}, Length{49152, 12}}) {
    const RandomHadamard rotation(n, 3, "q");
    for (const std::size_t i : {std::size_t{0}, n / 3, n - 2}) {
      std::vector<double> row(n);
      row[i] = 1.0;
      rotation.apply(row);
      EXPECT_THAT(row, Pointwise(DoubleNear(1e-15), dense_rotation_row(n, core, 3, "q", i))) << n << " " << i;
    }
  }
}

TEST(RandomHadamard, IsUndoneByItsTransposeAndKeepsNormsAtTheSizesOfModels) {
  for (const std::size_t n : kModelLengths) {
    const RandomHadamard rotation(n, 5, "q");
    const MatrixD x = random_double({2, n}, "x");
    MatrixD y = x;
    rotation.rotate_rows(y.view());
    EXPECT_GT(largest_difference(x, y), 0.5) << n;
    for (std::size_t r = 0; r < 2; ++r) {
      const auto norm = [r](const MatrixD& a) {
        double sum = 0;
        for (const double value : a.row(r)) sum += value * value;
        return std::sqrt(sum);
      };
      EXPECT_NEAR(norm(y) / norm(x), 1.0, 1e-13) << n;
    }
    rotation.rotate_rows_back(y.view());
    EXPECT_LT(largest_difference(x, y), 1e-13) << n;
    rotation.rotate_rows_back(y.view());
    rotation.rotate_rows(y.view());
    EXPECT_LT(largest_difference(x, y), 1e-13) << n;
  }
}

TEST(RandomHadamard, SpreadsOneLargeValueEvenly) {
  for (const auto [n, core] : kDenseLengths) {
    std::vector<double> x(n);
    x[n / 3] = 8.0;
    RandomHadamard(n, 3, "q").apply(x);
    for (const double value : x) ASSERT_NEAR(std::fabs(value), 8.0 / std::sqrt(static_cast<double>(n)), 1e-14) << n;
  }
}

TEST(RandomHadamard, GivesTheSameBitsForRowsAndForColumns) {
  for (const std::size_t n : {16, 24, 56, 60, 256}) {  // 256 x 37 values are done in pieces
    const RandomHadamard rotation(n, 3, "q");
    MatrixD rows = random_double({37, n}, "x");
    MatrixD columns = transposed(rows);
    rotation.rotate_rows(rows.view());
    rotation.apply(columns.values(), 37);
    EXPECT_EQ(transposed(columns), rows) << n;
    rotation.rotate_rows_back(rows.view());
    rotation.apply_transposed(columns.values(), 37);
    EXPECT_EQ(transposed(columns), rows) << n;
  }
}

TEST(RandomHadamard, TurnsEachPieceOfALongerRow) {
  const RandomHadamard rotation(8, 3, "q");
  MatrixD whole = random_double({3, 24}, "x");
  MatrixD pieces(9, 8);
  std::ranges::copy(whole.values(), pieces.values().begin());
  rotation.rotate_rows(whole.view());
  rotation.rotate_rows(pieces.view());
  EXPECT_TRUE(std::ranges::equal(whole.values(), pieces.values()));
}

TEST(RandomHadamard, RoundsFloatsOnceAndLeavesWhatIsBesideAView) {
  const RandomHadamard rotation(48, 3, "q");
  const MatrixF original = random_matrix({6, 60}, "x");
  MatrixF rotated = original;
  rotation.rotate_rows(rotated.view().col_range(7, 48));
  for (std::size_t r = 0; r < 6; ++r) {
    const auto row = original.row(r).subspan(7, 48);
    std::vector<double> exact(row.begin(), row.end());
    rotation.apply(exact);
    for (std::size_t c = 0; c < 60; ++c)
      ASSERT_EQ(rotated(r, c), c < 7 || c >= 55 ? original(r, c) : static_cast<float>(exact[c - 7])) << c;
  }
}

TEST(RandomHadamard, IsFixedBySeedAndName) {
  const MatrixF x = random_matrix({4, 64}, "x");
  const auto rotated = [&](std::uint64_t seed, std::string_view name) {
    MatrixF y = x;
    RandomHadamard(64, seed, name).rotate_rows(y.view());
    return y;
  };
  EXPECT_EQ(rotated(1, "a"), rotated(1, "a"));
  EXPECT_FALSE(rotated(1, "a") == rotated(2, "a"));
  EXPECT_FALSE(rotated(1, "a") == rotated(1, "b"));
}

TEST(RandomHadamard, GivesTheSameBitsForAnyNumberOfThreads) {
  const RandomHadamard rotation(96, 3, "q");
  const auto run = [&](int threads) {
    set_thread_count(threads);
    MatrixF x = random_matrix({301, 96}, "x");
    rotation.rotate_rows(x.view());
    set_thread_count(0);
    return x;
  };
  EXPECT_EQ(run(1), run(2));
}

TEST(RandomHadamard, RefusesLengthsWithoutAMatrixAndSaysWhichHaveOne) {
  for (const std::size_t n : {0, 3, 6, 10, 14, 18, 30, 44, 100, 11008, 4100}) {
    EXPECT_FALSE(has_hadamard(n)) << n;
    try {
      RandomHadamard(n, 0, "q");
      FAIL() << "no error for " << n;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_recipe);
      EXPECT_THAT(error.message(), AllOf(HasSubstr(fmt::format("length {} cannot be rotated", n)),
                                         HasSubstr("a power of two, or 12, 20, 28, 36 or 60 times one")));
    }
  }
}

TEST(RandomHadamard, RefusesRowsOfAnotherLength) {
  const RandomHadamard rotation(8, 0, "q");
  MatrixF rows(2, 12);
  std::vector<double> values(24);
  EXPECT_THROW(rotation.rotate_rows(rows.view()), Error);
  EXPECT_THROW(rotation.rotate_rows_back(rows.view()), Error);
  EXPECT_THROW(rotation.apply(values, 2), Error);
  EXPECT_THROW(rotation.apply(values, 0), Error);
  EXPECT_NO_THROW(rotation.apply(values, 3));
}

/// Q^T H Q of a symmetric H.
MatrixD rotated_moment(const MatrixD& h, const RandomHadamard& rotation) {
  MatrixD half = h;
  rotation.rotate_rows(half.view());
  half = transposed(half);
  rotation.rotate_rows(half.view());
  return half;
}

TEST(RandomHadamard, KeepsTheProxyLossWhenWeightsAndMomentTurn) {
  constexpr std::size_t kInputs = 112;
  const RandomHadamard rotation(kInputs, 3, "q");
  MatrixD x = random_double({300, kInputs}, "x");
  for (std::size_t t = 0; t < x.rows(); ++t) x(t, 5) *= 30.0;  // an outlying channel
  const MatrixD h = product(transposed(x), x);
  const MatrixD turned = rotated_moment(h, rotation);
  EXPECT_GT(largest_difference(h, turned), 100.0);

  MatrixF weights = random_matrix({40, kInputs}, "w");
  MatrixF coarse = weights;
  for (float& value : coarse.values()) value = std::nearbyint(value * 4.0f) / 4.0f;
  const double loss = proxy_loss(weights, coarse, h);
  rotation.rotate_rows(weights.view());
  rotation.rotate_rows(coarse.view());
  EXPECT_NEAR(proxy_loss(weights, coarse, turned) / loss, 1.0, 1e-6);  // the weights are rounded to float
  EXPECT_GT(std::fabs(proxy_loss(weights, coarse, h) / loss - 1.0), 0.1);
}

}  // namespace
}  // namespace adze
