// Deltas: closed forms against scans, dropped entries against their expectation.
#include "solve/delta/delta.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "base/dtype.h"
#include "base/error.h"
#include "base/random.h"
#include "grid/format.h"
#include "metrics/proxy_loss.h"
#include "solve/delta/method.h"
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

std::vector<std::byte> payload_of(const CompressedTensor& tensor) {
  return {tensor.payload().begin(), tensor.payload().end()};
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
  for (const SignScope scope : {SignScope::matrix, SignScope::row}) {
    EXPECT_NEAR(sum(row_losses(delta, mean_sign_delta(delta, scope).decode(), {})) / energy, 0.363380, 0.005);
  }
}

TEST(SignDelta, WithoutMomentsHasTheMeanAsItsBestScale) {
  const MatrixF delta = small_delta({5, 96}, 2);
  for (const SignScope scope : {SignScope::matrix, SignScope::row})
    EXPECT_EQ(payload_of(best_sign_delta(delta, {}, scope)), payload_of(mean_sign_delta(delta, scope)));
}

TEST(SignDelta, HasTheScaleOfLeastLossOfAllF16) {
  const MatrixF delta = small_delta({4, 24}, 3);
  const MatrixD h = correlated_hessian(24, 3);
  for (const SignScope scope : {SignScope::matrix, SignScope::row}) {
    const SignTensor best = best_sign_delta(delta, h, scope);
    const std::size_t scales = scope == SignScope::matrix ? 1 : 4;
    ASSERT_EQ(best.bytes(), 2 * scales + 4 * 3);
    const double least = loss(delta, best.decode(), h);
    EXPECT_LE(least, loss(delta, mean_sign_delta(delta, scope).decode(), h));
    for (std::size_t k = 0; k < scales; ++k)
      for (int step = 1; step < 400; step = 2 * step + 1)
        for (const int sign : {-1, 1}) {
          std::vector<std::uint16_t> others;
          for (std::size_t r = 0; r < scales; ++r) others.push_back(best.scale(r));
          others[k] = static_cast<std::uint16_t>(others[k] + sign * step);
          const SignTensor other = SignTensor::of_values(scope, delta, others);
          ASSERT_GE(loss(delta, other.decode(), h), least) << k << " " << sign * step;
        }
  }
  EXPECT_LE(loss(delta, best_sign_delta(delta, h, SignScope::row).decode(), h),
            loss(delta, best_sign_delta(delta, h, SignScope::matrix).decode(), h));
}

TEST(SignDelta, OfNothingIsNothing) {
  const MatrixF delta(3, 8);
  const MatrixD h = correlated_hessian(8, 1);
  EXPECT_EQ(best_sign_delta(delta, h, SignScope::row).decode(), delta);
  EXPECT_EQ(best_sign_delta(small_delta({3, 8}, 1), MatrixD(8, 8), SignScope::row).decode(), delta) << "H = 0";
}

TEST(DroppedDelta, IsUnbiasedAndLosesWhatIsPredicted) {
  const MatrixF delta = small_delta({3, 40}, 4);
  const MatrixD h = correlated_hessian(40, 4);
  constexpr int kDraws = 4000;
  MatrixD mean(delta.shape());
  std::vector<double> losses(3);
  for (int draw = 0; draw < kDraws; ++draw) {
    const MatrixF values = drop_delta(delta, h, {0.8, static_cast<std::uint64_t>(draw), "unbiased"}, false).decode();
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
  const DropMask mask(0.7, 9, "scale");
  const DroppedTensor best = drop_delta(delta, h, mask, true);
  const double least = loss(delta, best.decode(), h);
  EXPECT_LT(least, loss(delta, drop_delta(delta, h, mask, false).decode(), h));
  for (const float by : {0.5f, 0.9f, 0.99f, 0.999f, 1.001f, 1.01f, 1.1f, 2.0f})
    EXPECT_GT(loss(delta, best.with_factor(by * best.factor()).decode(), h), least) << by;
}

TEST(DroppedDelta, HasTheFactorThatMakesUpForWhatIsDropped) {
  const MatrixF delta = small_delta({20, 50}, 6);
  EXPECT_EQ(drop_delta(delta, {}, {0.75, 1, "layers.0.up"}, false).factor(), 4);
  EXPECT_EQ(drop_delta(MatrixF(2, 3), {}, {0.75, 1, "layers.0.up"}, true).decode(), MatrixF(2, 3)) << "nothing";
}

TEST(DroppedDelta, RefusesWhatItCannotHold) {
  MatrixF delta = small_delta({4, 10}, 8);
  for (const double probability : {-0.1, 1.0, 1.5, std::nan("")}) {
    EXPECT_THROW(drop_delta(delta, {}, {probability, 1, "x"}, false), Error) << probability;
    EXPECT_THROW(drop_variances(delta, {}, probability), Error) << probability;
    EXPECT_THROW(relative_drop_variance(delta, delta, {}, probability), Error) << probability;
  }
  delta(2, 3) = 1e6f;
  EXPECT_THROW(drop_delta(delta, {}, {0, 1, "x"}, false), Error);
  EXPECT_THROW(delta_of(delta, MatrixF(4, 11)), Error);
}

struct Named {
  std::string description;
  std::unique_ptr<DeltaMethod> method;
};

std::vector<Named> own_methods() {
  std::vector<Named> made;
  for (const bool best : {false, true}) {
    made.push_back({"signs per row scale=", sign_delta_method(SignScope::row, best)});
    made.push_back({"signs per matrix scale=", sign_delta_method(SignScope::matrix, best)});
    made.push_back({"dropped 75% seed 3 factor=", drop_delta_method(0.75, 3, best)});
  }
  return made;
}

/// Scales and factors of least loss are never worse, whatever H; formats and bytes are known beforehand.
TEST(DeltaMethods, LoseLessWithTheirBestScales) {
  const MatrixF up = small_delta({6, 24}, 1), gate = small_delta({9, 24}, 2);
  for (const std::uint64_t seed : {1, 2, 3}) {
    const MatrixD h = correlated_hessian(24, seed);
    const DeltaProblem problem{{"up", "gate"}, {up, gate}, h};
    const std::vector<Named> methods = own_methods();
    for (std::size_t m = 0; m < methods.size(); ++m) {
      EXPECT_THAT(methods[m].method->description(), ::testing::StartsWith(methods[m].description));
      const std::vector<Solution> solutions = methods[m].method->solve(problem);
      ASSERT_EQ(solutions.size(), 2u);
      for (std::size_t i = 0; i < 2; ++i) {
        const std::string format = methods[m].method->format(problem.modules[i], problem.deltas[i].shape());
        EXPECT_EQ(solutions[i].tensor->format(), format);
        EXPECT_EQ(solutions[i].tensor->bytes(), format_bytes(format, problem.deltas[i].shape()));
        const MatrixF& delta = i == 0 ? up : gate;
        EXPECT_NEAR(solutions[i].report.loss, loss(delta, solutions[i].tensor->decode(), h),
                    1e-9 * solutions[i].report.loss);
        if (m >= methods.size() / 2) {
          const std::vector<Solution> plain = methods[m - methods.size() / 2].method->solve(problem);
          EXPECT_LT(solutions[i].report.loss, plain[i].report.loss) << format;
        }
      }
    }
  }
}

TEST(DeltaMethods, DropOtherEntriesOfEachMatrix) {
  const MatrixF delta = small_delta({16, 32}, 1);
  const auto method = drop_delta_method(0.5, 0, false);
  EXPECT_EQ(method->drop_probability(), 0.5);
  const std::vector<Solution> both = method->solve({{"a", "b"}, {delta, delta}, {}});
  EXPECT_NE(both[0].tensor->decode(), both[1].tensor->decode());
  EXPECT_EQ(both[0].tensor->decode(), method->solve({{"a"}, {delta}, {}})[0].tensor->decode());
  EXPECT_EQ(sign_delta_method(SignScope::row, true)->drop_probability(), 0);
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
