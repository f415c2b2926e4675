// The bound against sums over all components, reference points of known quantizers, and what cannot change it.
#include "metrics/rate_distortion.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numbers>
#include <numeric>

#include <gtest/gtest.h>

#include "base/random.h"
#include "linalg/eigen.h"
#include "linalg/factor.h"
#include "linalg/gemm.h"
#include "linalg/linalg_testing.h"
#include "metrics/proxy_loss.h"

namespace adze {
namespace {

using Values = std::vector<double>;
using testing::random_matrix;

MatrixD identity(std::size_t n) {
  MatrixD matrix(n, n);
  for (std::size_t i = 0; i < n; ++i) matrix(i, i) = 1;
  return matrix;
}

/// Positive definite, its eigenvalues spread over a factor of a thousand or so.
MatrixD anisotropic(std::size_t n) {
  MatrixD x = random_matrix<double>({2 * n, n}, "inputs");
  for (std::size_t r = 0; r < x.rows(); ++r)
    for (std::size_t c = 0; c < n; ++c)
      x(r, c) *= std::exp(3.0 * static_cast<double>(c * 7 % n) / static_cast<double>(n));
  const MatrixD mixing = random_matrix<double>({n, n}, "mixing");
  MatrixD mixed = product_nn(x, mixing);
  for (std::size_t i = 0; i < mixed.values().size(); ++i) mixed.values()[i] = 0.3 * mixed.values()[i] + x.values()[i];
  return product_tn(mixed, mixed);
}

MatrixD root_of(MatrixD h) {
  EXPECT_FALSE(reverse_cholesky(h).has_value());
  return h;
}

/// D and bits of the whole layer by the definition.
struct Sums {
  double loss = 0, bits = 0;
};
Sums by_definition(const Values& variances, const Values& eigenvalues, double theta) {
  Sums sums;
  for (const double variance : variances)
    for (const double eigenvalue : eigenvalues) {
      const double component = variance * std::max(eigenvalue, 0.0);
      sums.loss += std::min(theta, component);
      if (component > theta) sums.bits += 0.5 * std::log2(component / theta);
    }
  return sums;
}

TEST(RateDistortion, IsTheSumOverAllComponents) {
  const Values variances = {0.5, 0, 2, 0.5, 1e-3}, eigenvalues = {4, 1e-4, 0, 30, 1, 0.7, -1e-9};
  const RateDistortion bound(variances, eigenvalues);
  for (const double theta : {1e-9, 1e-7, 1e-6, 1e-4, 0.01, 0.3, 0.5, 1.0, 8.0, 40.0}) {
    const Sums sums = by_definition(variances, eigenvalues, theta);
    const double bits = sums.bits / 35;
    EXPECT_NEAR(bound.bits_at_loss(sums.loss), bits, 1e-9 * (1 + bits)) << theta;
    EXPECT_NEAR(bound.loss_at_bits(bits), sums.loss, 1e-9 * sums.loss) << theta;
  }
}

TEST(RateDistortion, EndsAtNothingStoredAndAtNothingLost) {
  const RateDistortion bound(Values{1, 2}, Values{3, 4, 5});
  EXPECT_DOUBLE_EQ(bound.loss_of_nothing(), 36);
  EXPECT_EQ(bound.bits_at_loss(36), 0);
  EXPECT_EQ(bound.bits_at_loss(1000), 0);
  EXPECT_EQ(bound.loss_at_bits(0), 36);
  EXPECT_TRUE(std::isinf(bound.bits_at_loss(0)));
  const RateDistortion nothing(Values{0, 0}, Values{3, 4, 5});
  EXPECT_EQ(nothing.bits_at_loss(0), 0);
  EXPECT_EQ(nothing.loss_at_bits(3), 0);
}

TEST(RateDistortion, AtHighRateIsTheGeometricMean) {
  const Values eigenvalues = {8, 1, 0.5, 2};  // geometric mean 8^(1/4)
  const RateDistortion bound(Values{3}, eigenvalues);
  EXPECT_NEAR(bound.loss_at_bits(6), 4 * 3 * std::pow(8, 0.25) * std::exp2(-12), 1e-15);
}

TEST(RateDistortion, FallsAsTheLossGrows) {
  const RateDistortion bound(row_variances(random_matrix<float>({30, 16}, "w")),
                             symmetric_eigenvalues(anisotropic(16)));
  double before = std::numeric_limits<double>::infinity();
  for (double share = 1e-6; share < 1.5; share *= 1.3) {
    const double bits = bound.bits_at_loss(share * bound.loss_of_nothing());
    EXPECT_TRUE(share < 1 ? bits < before : bits == 0) << share;
    before = bits;
    EXPECT_NEAR(bound.loss_at_bits(bits) / bound.loss_of_nothing(), std::min(share, 1.0), 1e-9 * share) << bits;
  }
}

TEST(RateDistortion, SharingTheWaterIsNeverWorseThanRowByRow) {
  const Values eigenvalues = symmetric_eigenvalues(anisotropic(12));
  const Values variances = {0.01, 1, 5, 0.3};
  double apart = 0;
  for (const double variance : variances) apart += RateDistortion(Values{variance}, eigenvalues).loss_at_bits(1.5);
  EXPECT_LT(RateDistortion(variances, eigenvalues).loss_at_bits(1.5), apart);
}

/// Levels of the quantizer of least squared error for a standard normal: Lloyd's iteration with exact integrals.
Values lloyd_max(std::size_t count) {
  const auto density = [](double x) { return std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi); };
  const auto below = [](double x) { return 0.5 * std::erfc(-x / std::numbers::sqrt2); };
  Values levels(count);
  for (std::size_t i = 0; i < count; ++i)
    levels[i] = -2 + 4 * (static_cast<double>(i) + 0.5) / static_cast<double>(count);
  for (int sweep = 0; sweep < 3000; ++sweep) {
    double left = -40;
    for (std::size_t i = 0; i < count; ++i) {
      const double right = i + 1 < count ? (levels[i] + levels[i + 1]) / 2 : 40;
      levels[i] = (density(left) - density(right)) / (below(right) - below(left));
      left = right;
    }
  }
  return levels;
}

TEST(RateDistortion, OptimalScalarQuantizersAreAsFarFromItAsTheTextbookSays) {
  const MatrixF weights = random_matrix<float>({4096, 512}, "gaussian");
  const RateDistortion bound(row_variances(weights), Values(512, 1.0));
  const double gaps[] = {0.455, 0.572, 0.641};
  for (std::size_t bits = 2; bits <= 4; ++bits) {
    const Values levels = lloyd_max(std::size_t{1} << bits);
    double loss = 0;
    for (const float weight : weights.values()) {
      const auto above = std::ranges::lower_bound(levels, static_cast<double>(weight));
      double least = std::numeric_limits<double>::infinity();
      if (above != levels.end()) least = *above - weight;
      if (above != levels.begin()) least = std::min(least, weight - *(above - 1));
      loss += least * least;
    }
    EXPECT_NEAR(static_cast<double>(bits) - bound.bits_at_loss(loss), gaps[bits - 2], 0.01) << bits;
  }
}

/// Bits per symbol of an ideal coder that knows the counts.
double entropy_of(const std::map<long, std::size_t>& counts) {
  double total = 0, sum = 0;
  for (const auto& [code, count] : counts) total += static_cast<double>(count);
  for (const auto& [code, count] : counts)
    sum -= static_cast<double>(count) * std::log2(static_cast<double>(count) / total);
  return sum / total;
}

TEST(RateDistortion, UniformStepsWithEntropyCodingAre0254BitsAboveIt) {
  const MatrixF weights = random_matrix<float>({4096, 512}, "gaussian");
  constexpr double kStep = 1.0 / 16;
  std::map<long, std::size_t> counts;
  double loss = 0;
  for (const float weight : weights.values()) {
    const long code = std::lround(weight / kStep);
    ++counts[code];
    loss += std::pow(weight - kStep * static_cast<double>(code), 2);
  }
  const RateDistortion bound(row_variances(weights), Values(512, 1.0));
  EXPECT_NEAR(entropy_of(counts) - bound.bits_at_loss(loss),
              0.5 * std::log2(2 * std::numbers::pi * std::numbers::e / 12), 0.01);
}

// With one step for all columns, error feedback pays for the spread of the squared pivots on top of its uniform steps.
TEST(RateDistortion, ErrorFeedbackPaysForTheSpreadOfItsPivots) {
  constexpr std::size_t kCols = 64;
  constexpr double kStep = 1.0 / 128;  // all components are far above the water
  const MatrixD h = anisotropic(kCols), r = root_of(h);
  const MatrixF weights = random_matrix<float>({4000, kCols}, "gaussian");
  MatrixF rounded(weights.shape());
  std::map<long, std::size_t> counts;
  Values errors(kCols);
  for (std::size_t row = 0; row < weights.rows(); ++row)
    for (std::size_t j = 0; j < kCols; ++j) {
      double moved = 0;
      for (std::size_t i = 0; i < j; ++i) moved += errors[i] * r(i, j);
      const long code = std::lround((weights(row, j) + moved / r(j, j)) / kStep);
      ++counts[code];
      rounded(row, j) = static_cast<float>(kStep * static_cast<double>(code));
      errors[j] = static_cast<double>(weights(row, j)) - rounded(row, j);
    }
  double arithmetic = 0, logarithm = 0;
  for (std::size_t j = 0; j < kCols; ++j) {
    arithmetic += r(j, j) * r(j, j) / kCols;
    logarithm += std::log2(r(j, j) * r(j, j)) / kCols;
  }
  const double spread = 0.5 * (std::log2(arithmetic) - logarithm);
  ASSERT_GT(spread, 0.3);
  const RateDistortion bound(row_variances(weights), symmetric_eigenvalues(h));
  EXPECT_NEAR(entropy_of(counts) - bound.bits_at_loss(proxy_loss(weights, rounded, h)), 0.254 + spread, 0.03);
}

TEST(RateDistortion, DoesNotChangeWithTheScaleOfHOrRotatedInputs) {
  const std::size_t n = 24;
  const MatrixF weights = random_matrix<float>({200, n}, "w");
  const MatrixD h = anisotropic(n);
  const Values variances = row_variances(weights);
  const RateDistortion bound(variances, symmetric_eigenvalues(h));
  const double loss = 0.02 * bound.loss_of_nothing();
  MatrixD scaled = h;
  for (double& value : scaled.values()) value *= 1e-4;
  EXPECT_NEAR(RateDistortion(variances, symmetric_eigenvalues(scaled)).bits_at_loss(1e-4 * loss),
              bound.bits_at_loss(loss), 1e-9);
  const MatrixD q = polar_factor(random_matrix<double>({n, n}, "rotation"));
  const MatrixD rotated = product_nt(product_nn(q, h), q);
  EXPECT_NEAR(RateDistortion(variances, symmetric_eigenvalues(rotated)).bits_at_loss(loss), bound.bits_at_loss(loss),
              1e-9);
  // The structured bound, with W rotated as well.
  MatrixD wide(weights.shape());
  std::ranges::copy(weights.values(), wide.values().begin());
  const MatrixD wide_rotated = product_nt(wide, q);
  MatrixF weights_rotated(weights.shape());
  std::ranges::transform(wide_rotated.values(), weights_rotated.values().begin(),
                         [](double value) { return static_cast<float>(value); });
  const auto structured = [&](const MatrixF& w, const MatrixD& moment) {
    const Values s = row_variances(w);
    return RateDistortion(s, structured_eigenvalues(row_structure(w, s), root_of(moment))).bits_at_loss(loss);
  };
  EXPECT_NEAR(structured(weights_rotated, rotated), structured(weights, h), 1e-5);
}

TEST(RowStructure, OfIndependentWeightsIsTheIdentity) {
  const MatrixF weights = random_matrix<float>({100, 40}, "w");
  const RowStructure found = row_structure(weights, row_variances(weights));
  EXPECT_GT(found.shrinkage, 0.8);
  const MatrixD h = anisotropic(40);
  const Values variances = row_variances(weights), plain = symmetric_eigenvalues(h);
  const double loss = 1e-3 * RateDistortion(variances, plain).loss_of_nothing();
  EXPECT_NEAR(RateDistortion(variances, structured_eigenvalues(found, root_of(h))).bits_at_loss(loss),
              RateDistortion(variances, plain).bits_at_loss(loss), 0.03);
}

TEST(RowStructure, IsTheMeanOfOuterProductsShrunkToTheIdentity) {
  MatrixF weights = random_matrix<float>({7, 5}, "w");
  std::ranges::fill(weights.row(3), 0.0f);
  for (std::size_t r = 0; r < 7; ++r)  // the first two columns are nearly the same
    weights(r, 1) = weights(r, 0) * 1.01f;
  const Values variances = row_variances(weights);
  const RowStructure found = row_structure(weights, variances);
  EXPECT_GT(found.shrinkage, 0);
  EXPECT_LT(found.shrinkage, 1);
  double trace = 0;
  for (std::size_t i = 0; i < 5; ++i) {
    trace += found.covariance(i, i);
    for (std::size_t j = 0; j < 5; ++j) {
      double mean = 0;
      for (std::size_t r = 0; r < 7; ++r)
        if (r != 3) mean += static_cast<double>(weights(r, i)) * weights(r, j) / variances[r] / 6;
      EXPECT_NEAR(found.covariance(i, j), (1 - found.shrinkage) * mean + (i == j ? found.shrinkage : 0), 1e-12);
    }
  }
  EXPECT_NEAR(trace, 5, 1e-12);
  const RowStructure empty = row_structure(MatrixF(3, 4), Values(3, 0.0));
  EXPECT_EQ(empty.covariance, identity(4));
}

TEST(RowStructure, LowersTheBoundOfWeightsThatHaveSome) {
  const std::size_t n = 16;
  MatrixF weights(2000, n);
  const MatrixD mixing = root_of(anisotropic(n));
  const MatrixD mixed = product_nn(random_matrix<double>({2000, n}, "w"), mixing);
  std::ranges::transform(mixed.values(), weights.values().begin(),
                         [](double value) { return static_cast<float>(value); });
  const Values variances = row_variances(weights);
  const RowStructure structure = row_structure(weights, variances);
  EXPECT_LT(structure.shrinkage, 0.05);
  const RateDistortion plain(variances, Values(n, 1.0));
  const RateDistortion structured(variances, structured_eigenvalues(structure, identity(n)));
  const double loss = 1e-4 * plain.loss_of_nothing();
  EXPECT_LT(structured.bits_at_loss(loss), plain.bits_at_loss(loss) - 0.5);
}

TEST(WithDamping, AddsAShareOfTheMeanDiagonal) {
  MatrixD h(2, 2);
  h(0, 0) = 3, h(1, 1) = 1, h(0, 1) = h(1, 0) = 0.5;
  const MatrixD damped = with_damping(h, 0.1);
  EXPECT_DOUBLE_EQ(damped(0, 0), 3.2);
  EXPECT_DOUBLE_EQ(damped(1, 1), 1.2);
  EXPECT_DOUBLE_EQ(damped(0, 1), 0.5);
  EXPECT_EQ(with_damping(MatrixD(2, 2), 0.1), identity(2));
}

}  // namespace
}  // namespace adze
