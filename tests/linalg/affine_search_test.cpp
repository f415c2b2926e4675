#include "linalg/affine_search.h"

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "linalg/linalg_testing.h"

namespace adze {
namespace {

using testing::random_matrix;

constexpr AffineSearch kFourBits{15.0f, 12.8f, 0.3f, false};

std::vector<float> row(std::size_t count, std::string_view name, float shift = 0) {
  const MatrixF values = random_matrix<float>({1, count}, name);
  std::vector<float> all(values.values().begin(), values.values().end());
  for (float& value : all) value += shift;
  return all;
}

std::vector<float> magnitudes(std::size_t count, std::string_view name) {
  std::vector<float> all = row(count, name);
  for (float& value : all) value = std::fabs(value) + 0.01f;
  return all;
}

double error_at(std::span<const float> x, std::span<const float> weight, double step, double offset, double hi) {
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double code = step > 0 ? std::nearbyint(std::clamp((x[i] - offset) / step, 0.0, hi)) : 0;
    sum += weight[i] * std::pow(x[i] - step * code - offset, 2);
  }
  return sum;
}

TEST(SearchAffine, ComesCloseToTheBestOfAFineSearch) {
  for (const std::size_t cols : {5u, 16u, 32u, 40u}) {
    const std::vector<float> x = row(cols, "x");
    const std::vector<float> weight = magnitudes(cols, "w");
    GroupFit fit;
    search_affine(x, weight, kFourBits, {&fit, 1});
    const auto [lo, hi] = std::ranges::minmax(x);
    double best = INFINITY;
    for (int i = 0; i < 200; ++i)
      for (int j = 0; j < 200; ++j) {
        const double step = (hi - lo) / 15 * (0.6 + 0.003 * i);
        best = std::min(best, error_at(x, weight, step, std::min(lo * (1.1 - 0.002 * j), 0.0), 15));
      }
    EXPECT_LT(error_at(x, weight, fit.step, fit.offset, 15), 1.5 * best) << cols;
    EXPECT_LE(fit.offset, 0.0f);
  }
}

TEST(SearchAffine, FindsStepAndOffsetOfValuesOnTheGrid) {
  std::vector<float> x;
  for (int i = 0; i < 32; ++i) x.push_back(0.25f * static_cast<float>(i * 7 % 16) - 1.5f);
  GroupFit fit;
  search_affine(x, std::vector<float>(32, 1.0f), kFourBits, {&fit, 1});
  EXPECT_NEAR(fit.step, 0.25f, 1e-5f);
  EXPECT_NEAR(fit.offset, -1.5f, 1e-4f);
}

TEST(SearchAffine, KeepsOffsetsAtMostZeroUnlessAnyIsAllowed) {
  const std::vector<float> x = row(32, "far", 20.0f);
  const std::vector<float> weight(32, 1.0f);
  GroupFit fit;
  search_affine(x, weight, kFourBits, {&fit, 1});
  EXPECT_LE(fit.offset, 0.0f);
  AffineSearch anywhere = kFourBits;
  anywhere.any_offset = true;
  search_affine(x, weight, anywhere, {&fit, 1});
  EXPECT_GT(fit.offset, 10.0f);
  EXPECT_LT(error_at(x, weight, fit.step, fit.offset, 15), 0.4);
}

TEST(SearchAffine, TakesTheExtremesOfAGroupWithoutWeights) {
  const std::vector<float> x = {-1.0f, 0.5f, 2.0f, 0.0f};
  GroupFit fit;
  search_affine(x, std::vector<float>(4, 0.0f), kFourBits, {&fit, 1});
  EXPECT_FLOAT_EQ(fit.step, 0.2f);
  EXPECT_FLOAT_EQ(fit.offset, -1.0f);
  search_affine(std::vector<float>(4, 0.0f), std::vector<float>(4, 1.0f), kFourBits, {&fit, 1});
  EXPECT_EQ(fit.step, 0.0f);
  EXPECT_EQ(fit.offset, 0.0f);
}

class SharedSearch : public ::testing::Test {
 protected:
  static constexpr std::size_t kGroups = 8;
  std::vector<float> x = row(32 * kGroups, "x");
  std::vector<float> weight = magnitudes(32 * kGroups, "w");
  std::vector<GroupFit> fits = std::vector<GroupFit>(kGroups);
  SharedScales scales;

  void SetUp() override {
    search_affine(x, weight, kFourBits, fits);
    scales.d = 0.01f;
    scales.dmin = 0.05f;
    for (std::size_t k = 0; k < kGroups; ++k) {
      scales.scale[k] = std::nearbyint(fits[k].step / scales.d);
      scales.min[k] = std::nearbyint(-fits[k].offset / scales.dmin);
    }
  }
  double group_error(const SharedScales& at, std::size_t k) const {
    return error_at(std::span(x).subspan(32 * k, 32), std::span(weight).subspan(32 * k, 32), at.d * at.scale[k],
                    -(at.dmin * at.min[k]), 15);
  }
};

TEST_F(SharedSearch, FindsTheBestIntegersAmongNeighbours) {
  SharedScales found = scales;
  search_integers(x, weight, 15, 63, fits, found);
  for (std::size_t k = 0; k < kGroups; ++k) {
    double best = INFINITY;
    for (int s = -1; s <= 1; ++s)
      for (int m = -2; m <= 2; ++m) {
        SharedScales tried = scales;
        tried.scale[k] += static_cast<float>(s);
        tried.min[k] += static_cast<float>(m);
        best = std::min(best, group_error(tried, k));
      }
    EXPECT_LE(group_error(found, k), best * (1 + 1e-4)) << k;
  }
}

TEST_F(SharedSearch, GivesEquationsWhoseErrorIsThatOfTheCodes) {
  const SharedFit fit = search_integers(x, weight, 15, 63, fits, scales);
  double error = 0, xx = 0;
  for (std::size_t k = 0; k < kGroups; ++k) {
    error += group_error(scales, k);
    xx += fits[k].xx;
  }
  EXPECT_NEAR(xx + fit.error(scales.d, scales.dmin), error, 1e-4 * xx);
}

TEST_F(SharedSearch, SettlesForTheCodesOfTheFits) {
  const SharedScales before = scales;
  const SharedFit fit = settle_integers(63, fits, scales);
  double stayed = 0, moved = 0;
  const auto error_of = [&](const SharedScales& at, std::size_t k) {
    const double s = at.d * at.scale[k];
    const double o = -(at.dmin * at.min[k]);
    const GroupFit& f = fits[k];
    return s * s * f.ll + o * o * f.w + 2 * s * o * f.l - 2 * s * f.xl - 2 * o * f.x;
  };
  for (std::size_t k = 0; k < kGroups; ++k) {
    stayed += error_of(before, k);
    moved += error_of(scales, k);
    EXPECT_LE(error_of(scales, k), error_of(before, k) + 1e-4);
  }
  EXPECT_LE(moved, stayed);
  EXPECT_NEAR(fit.error(scales.d, scales.dmin), moved, 1e-4 * std::fabs(moved));
}

}  // namespace
}  // namespace adze
