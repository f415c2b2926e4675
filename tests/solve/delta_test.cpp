// Deltas: closed forms against scans, dropped entries against their expectation, bytes against a count.
#include "solve/delta/delta.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "base/dtype.h"
#include "base/error.h"
#include "base/random.h"
#include "metrics/proxy_loss.h"
#include "solve/solve_testing.h"

namespace adze {
namespace {

using ::testing::HasSubstr;

MatrixF small_delta(Shape shape, std::uint64_t seed) {
  RandomStream random(seed, "delta");
  MatrixF delta(shape);
  for (std::size_t r = 0; r < shape.rows; ++r)  // rows of very different sizes, and correlated columns
    for (std::size_t c = 0; c < shape.cols; ++c)
      delta(r, c) = static_cast<float>(0.001 * static_cast<double>(r + 1) * (random.normal() + 0.3));
  return delta;
}

double loss(const MatrixF& delta, const MatrixF& approximation, const MatrixD& h) {
  return proxy_loss(delta, approximation, h);
}

TEST(SignDelta, OfNormalEntriesLeaves36Percent) {
  MatrixF delta(64, 2048);
  RandomStream random(1, "normal");
  for (float& d : delta.values()) d = static_cast<float>(random.normal());
  const auto sum = [](const std::vector<double>& rows) { return std::accumulate(rows.begin(), rows.end(), 0.0); };
  const double energy = sum(row_losses(delta, MatrixF(delta.shape()), {}));
  for (const DeltaScope scope : {DeltaScope::matrix, DeltaScope::row}) {
    EXPECT_NEAR(sum(row_losses(delta, mean_sign_delta(delta, scope).decode(), {})) / energy, 0.363380, 0.005);
  }
}

TEST(SignDelta, WithoutMomentsHasTheMeanAsItsBestScale) {
  const MatrixF delta = small_delta({5, 96}, 2);
  for (const DeltaScope scope : {DeltaScope::matrix, DeltaScope::row})
    EXPECT_EQ(best_sign_delta(delta, {}, scope).scales, mean_sign_delta(delta, scope).scales);
}

TEST(SignDelta, HasTheScaleOfLeastLossOfAllF16) {
  const MatrixF delta = small_delta({4, 24}, 3);
  const MatrixD h = correlated_hessian(24, 3);
  for (const DeltaScope scope : {DeltaScope::matrix, DeltaScope::row}) {
    const SignDelta best = best_sign_delta(delta, h, scope);
    ASSERT_EQ(best.scales.size(), scope == DeltaScope::matrix ? 1u : 4u);
    const double least = loss(delta, best.decode(), h);
    EXPECT_LE(least, loss(delta, mean_sign_delta(delta, scope).decode(), h));
    for (std::size_t k = 0; k < best.scales.size(); ++k)
      for (int step = 1; step < 400; step = 2 * step + 1)
        for (const int sign : {-1, 1}) {
          SignDelta other = best;
          other.scales[k] = static_cast<std::uint16_t>(other.scales[k] + sign * step);
          ASSERT_GE(loss(delta, other.decode(), h), least) << k << " " << sign * step;
        }
  }
  EXPECT_LE(loss(delta, best_sign_delta(delta, h, DeltaScope::row).decode(), h),
            loss(delta, best_sign_delta(delta, h, DeltaScope::matrix).decode(), h));
}

TEST(SignDelta, HasBytesAsDocumented) {
  MatrixF delta(2, 9);
  for (float& d : delta.values()) d = 0.5f;
  delta(0, 0) = delta(0, 8) = delta(1, 3) = -0.5f;
  delta(1, 4) = -0.0f;  // counts as positive
  const SignDelta signs = mean_sign_delta(delta, DeltaScope::matrix);
  EXPECT_EQ(signs.signs, (std::vector<std::byte>{std::byte{1}, std::byte{1}, std::byte{8}, std::byte{0}}));
  EXPECT_EQ(signs.scales, std::vector<std::uint16_t>{float_to_f16(8.5f / 18)});
  EXPECT_EQ(signs.bytes(), 4u + 2u);
  const float scale = f16_to_float(signs.scales[0]);
  EXPECT_EQ(signs.decode()(0, 8), -scale);
  EXPECT_EQ(signs.decode()(1, 4), scale);
}

TEST(SignDelta, OfNothingIsNothing) {
  const MatrixF delta(3, 8);
  const MatrixD h = correlated_hessian(8, 1);
  EXPECT_EQ(best_sign_delta(delta, h, DeltaScope::row).decode(), delta);
  EXPECT_EQ(best_sign_delta(small_delta({3, 8}, 1), MatrixD(8, 8), DeltaScope::row).decode(), delta) << "H = 0";
}

TEST(DroppedDelta, IsUnbiasedAndLosesWhatIsPredicted) {
  const MatrixF delta = small_delta({3, 40}, 4);
  const MatrixD h = correlated_hessian(40, 4);
  constexpr int kDraws = 4000;
  MatrixD mean(delta.shape());
  std::vector<double> losses(3);
  for (int draw = 0; draw < kDraws; ++draw) {
    const MatrixF values = drop_delta(delta, h, {0.8, static_cast<std::uint64_t>(draw), "unbiased", false}).decode();
    const std::vector<double> rows = row_losses(delta, values, h);
    for (std::size_t r = 0; r < 3; ++r) losses[r] += rows[r] / kDraws;
    for (std::size_t i = 0; i < mean.values().size(); ++i) mean.values()[i] += double{values.values()[i]} / kDraws;
  }
  const std::vector<double> predicted = drop_variances(delta, h, 0.8);
  for (std::size_t r = 0; r < 3; ++r) EXPECT_NEAR(losses[r] / predicted[r], 1, 0.1) << r;
  for (std::size_t i = 0; i < mean.values().size(); ++i) {
    const double d = delta.values()[i], deviation = std::fabs(d) * std::sqrt(0.8 / 0.2 / kDraws);
    EXPECT_NEAR(mean.values()[i], d, 4.5 * deviation + 1e-6);
  }
  const double relative = relative_drop_variance(delta, delta, h, 0.8);
  EXPECT_NEAR(relative, (predicted[0] + predicted[1] + predicted[2]) / output_energy(delta, h), 1e-9 * relative);
}

TEST(DroppedDelta, HasTheScaleOfLeastLoss) {
  const MatrixF delta = small_delta({6, 32}, 5);
  const MatrixD h = correlated_hessian(32, 5);
  DroppedDelta best = drop_delta(delta, h, {0.7, 9, "scale", true});
  const double least = loss(delta, best.decode(), h);
  EXPECT_LT(least, loss(delta, drop_delta(delta, h, {0.7, 9, "scale", false}).decode(), h));
  const float k = best.scale;
  for (const float factor : {0.5f, 0.9f, 0.99f, 0.999f, 1.001f, 1.01f, 1.1f, 2.0f}) {
    best.scale = factor * k;
    EXPECT_GT(loss(delta, best.decode(), h), least) << factor;
  }
}

TEST(DroppedDelta, KeepsTheSamePlacesForTheSameSeedAndStream) {
  const MatrixF delta = small_delta({20, 50}, 6);
  const DroppedDelta dropped = drop_delta(delta, {}, {0.9, 1, "layers.0.up", false});
  const MatrixF values = dropped.decode();
  std::size_t kept = 0;
  for (std::size_t i = 0; i < values.values().size(); ++i) {
    if (values.values()[i] == 0) continue;
    ++kept;
    EXPECT_EQ(values.values()[i], dropped.scale * f16_to_float(float_to_f16(delta.values()[i])));
  }
  EXPECT_EQ(kept, dropped.kept.size());
  EXPECT_EQ(dropped.bytes(), 2 * kept + 4);
  EXPECT_NEAR(static_cast<double>(kept), 100, 40);
  EXPECT_EQ(drop_delta(delta, {}, {0.9, 1, "layers.0.up", false}).kept, dropped.kept);
  EXPECT_NE(drop_delta(delta, {}, {0.9, 1, "layers.1.up", false}).kept, dropped.kept);
  EXPECT_NE(drop_delta(delta, {}, {0.9, 2, "layers.0.up", false}).kept, dropped.kept);
}

TEST(DroppedDelta, WithProbabilityZeroIsTheDeltaInF16) {
  const MatrixF delta = small_delta({4, 10}, 7);
  const MatrixF values = drop_delta(delta, correlated_hessian(10, 7), {0, 1, "all", false}).decode();
  for (std::size_t i = 0; i < values.values().size(); ++i)
    EXPECT_EQ(values.values()[i], f16_to_float(float_to_f16(delta.values()[i])));
}

TEST(DroppedDelta, RefusesWhatItCannotHold) {
  MatrixF delta = small_delta({4, 10}, 8);
  for (const double probability : {-0.1, 1.0, 1.5, std::nan("")})
    EXPECT_THROW(drop_delta(delta, {}, {probability, 1, "x", false}), Error) << probability;
  DroppedDelta dropped = drop_delta(delta, {}, {0.5, 1, "x", false});
  dropped.kept.pop_back();
  try {
    dropped.decode();
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_THAT(error.message(), HasSubstr("where its mask keeps"));
  }
  delta(2, 3) = 1e6f;
  EXPECT_THROW(drop_delta(delta, {}, {0, 1, "x", false}), Error);
  EXPECT_THROW(delta_of(delta, MatrixF(4, 11)), Error);
}

TEST(DeltaOf, IsTheDifference) {
  MatrixF tuned(1, 2), base(1, 2);
  tuned(0, 0) = 3;
  base(0, 1) = 2;
  const MatrixF delta = delta_of(tuned, base);
  EXPECT_EQ(delta(0, 0), 3);
  EXPECT_EQ(delta(0, 1), -2);
}

}  // namespace
}  // namespace adze
