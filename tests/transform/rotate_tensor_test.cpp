#include "transform/rotate_tensor.h"

#include <limits>
#include <optional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/parallel.h"
#include "model/memory_source.h"
#include "transform/dense_rotation.h"

namespace adze {
namespace {

using testing::dense_rotation;
using ::testing::HasSubstr;
using testing::identity;
using testing::in_double;
using testing::largest_difference;
using testing::product;
using testing::random_matrix;
using testing::random_values;
using testing::repeated;
using testing::transposed;

constexpr Shape kShape{80, 48};

TensorPtr dense(const MatrixF& weights, DType dtype = DType::f32) {
  return std::make_shared<const DenseTensor>(make_dense(weights, dtype));
}

std::optional<RandomHadamard> rotation_of(std::size_t length, std::string_view name) {
  if (length == 1) return std::nullopt;
  return RandomHadamard(length, 1, name);
}

MatrixD dense_side(std::size_t length, std::size_t n, std::string_view name) {
  const std::size_t core = length % 3 == 0 ? 12 : length % 5 == 0 ? 20 : 1;
  return length == 1 ? identity(n) : repeated(dense_rotation(length, core, 1, name), n);
}

/// R^T W diag(gain) Q
MatrixD expected_product(const MatrixF& weights, std::size_t in, std::size_t out, std::span<const float> gain) {
  MatrixD scaled = in_double(weights);
  for (std::size_t r = 0; r < scaled.rows() && !gain.empty(); ++r)
    for (std::size_t c = 0; c < scaled.cols(); ++c) scaled(r, c) *= static_cast<double>(gain[c]);
  return product(transposed(dense_side(out, weights.rows(), "out")),
                 product(scaled, dense_side(in, weights.cols(), "in")));
}

TEST(RotateTensor, IsTheDenseProductRoundedOnceForEveryPairOfLengths) {
  const std::vector<float> gain = random_values(kShape.cols, "gain", 0.3, 1.0);
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const std::size_t in : {1, 4, 16, 24, 48})
      for (const std::size_t out : {1, 8, 16, 20, 80})
        for (const std::span<const float> gains : {std::span<const float>(), std::span<const float>(gain)}) {
          const TensorPtr weight = dense(random_matrix(kShape, "w"), dtype);
          const auto q = rotation_of(in, "in");
          const auto r = rotation_of(out, "out");
          const MatrixF rotated = rotate_tensor(weight, {q ? &*q : nullptr, r ? &*r : nullptr, gains})->decode();
          const MatrixD expected = expected_product(weight->decode(), in, out, gains);
          ASSERT_EQ(rotated.shape(), kShape);
          for (std::size_t i = 0; i < rotated.values().size(); ++i)  // half a unit in the last place, and the sums' own
            ASSERT_NEAR(rotated.values()[i], expected.values()[i], 0x1p-24 * std::fabs(expected.values()[i]) + 1e-13)
                << name_of(dtype) << " " << in << " " << out;
        }
}

TEST(RotateTensor, GivesBackWhatDoesNotChangeAndF32Otherwise) {
  const TensorPtr weight = dense(random_matrix(kShape, "w"), DType::bf16);
  EXPECT_EQ(rotate_tensor(weight, {}), weight);
  const RandomHadamard q(48, 1, "in");
  EXPECT_EQ(rotate_tensor(weight, {&q, nullptr, {}})->format(), "f32");
}

TEST(RotateTensor, GivesTheSameBytesForAnyNumberOfThreads) {
  const TensorPtr weight = dense(random_matrix({192, 320}, "w"));
  const RandomHadamard q(64, 1, "in"), r(192, 1, "out");
  for (const TensorSides& sides :
       {TensorSides{&q, nullptr, {}}, TensorSides{nullptr, &r, {}}, TensorSides{&q, &r, {}}}) {
    const auto run = [&](int threads) {
      set_thread_count(threads);
      const MatrixF rotated = rotate_tensor(weight, sides)->decode();
      set_thread_count(0);
      return rotated;
    };
    EXPECT_EQ(run(1), run(2));
  }
}

TEST(RotateTensor, RefusesRotationsAndGainsThatDoNotFit) {
  const TensorPtr weight = dense(random_matrix(kShape, "w"));
  const RandomHadamard good(16, 1, "in"), bad(64, 1, "in");
  const std::vector<float> gain(47);
  for (const TensorSides& sides :
       {TensorSides{&bad, nullptr, {}}, TensorSides{nullptr, &bad, {}}, TensorSides{&good, nullptr, gain}})
    EXPECT_THROW(rotate_tensor(weight, sides), Error);
  EXPECT_NO_THROW(rotate_tensor(weight, {&good, &good, {}}));
}

TEST(RotateTensor, RefusesAValueBeyondF32) {
  MatrixF large(kShape);
  for (float& value : large.values()) value = std::numeric_limits<float>::max();
  const std::vector<float> gain(kShape.cols, 2.0f);
  const RandomHadamard in(16, 1, "in"), out(16, 1, "out");
  for (const TensorSides& sides :
       {TensorSides{&in, nullptr, {}}, TensorSides{nullptr, &out, {}}, TensorSides{{}, {}, gain}}) {
    try {
      rotate_tensor(dense(large), sides);
      FAIL() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_data);
      EXPECT_THAT(error.message(), HasSubstr("does not fit f32"));
    }
  }
}

TEST(RotateBias, IsTheDenseProductForEachHead) {
  const RandomHadamard rotation(8, 1, "out");
  MatrixF bias(1, 24);
  std::ranges::copy(random_values(24, "b"), bias.values().begin());
  MatrixF rotated(1, 24);
  std::ranges::copy(rotate_bias(bias.values(), rotation), rotated.values().begin());
  EXPECT_LT(largest_difference(rotated, product(in_double(bias), dense_side(8, 24, "out"))), 1e-6);
  EXPECT_TRUE(rotate_bias({}, rotation).empty());
}

}  // namespace
}  // namespace adze
