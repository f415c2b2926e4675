#include "linalg/scale_search.h"

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "linalg/linalg_testing.h"

namespace adze {
namespace {

using testing::random_matrix;

std::vector<float> random_row(std::size_t count, std::string_view name) {
  const MatrixF row = random_matrix<float>({1, count}, name);
  return {row.values().begin(), row.values().end()};
}

std::vector<float> magnitudes(std::size_t count, std::string_view name) {
  std::vector<float> values = random_row(count, name);
  for (float& value : values) value = std::fabs(value);
  return values;
}

struct PlainSums {
  double l = 0, ll = 0, e = 0, el = 0, ee = 0, size = 1e-30;

  void add(double w, double scaled, double code) {
    const double rest = scaled - code;
    l += w * code;
    ll += w * code * code;
    e += w * rest;
    el += w * rest * code;
    ee += w * rest * rest;
    size += w * 100;
  }
};

void expect_near(const CandidateMoments& m, std::size_t c, const PlainSums& sums, bool with_shift) {
  const double slack = 2e-6 * sums.size;
  EXPECT_NEAR(m.l[c], with_shift ? sums.l : 0, slack);
  EXPECT_NEAR(m.ll[c], sums.ll, slack);
  EXPECT_NEAR(m.e[c], with_shift ? sums.e : 0, slack);
  EXPECT_NEAR(m.el[c], sums.el, slack);
  EXPECT_NEAR(m.ee[c], sums.ee, slack);
}

Candidates some_candidates() {
  Candidates candidates;
  for (std::size_t c = 0; c < kCandidates; ++c) {
    candidates.inverse[c] = (c % 3 == 2 ? -1.0f : 1.0f) * (1.0f + 0.3f * static_cast<float>(c));
    candidates.shift[c] = 0.37f * static_cast<float>(c) - 2.0f;
    candidates.lo[c] = -4.0f + static_cast<float>(c % 2);
    candidates.hi[c] = candidates.lo[c] + 7.0f;
  }
  return candidates;
}

TEST(CandidateMoments, AreThePlainSumsForEveryCandidateAndLength) {
  const Candidates candidates = some_candidates();
  for (const std::size_t n : {0u, 1u, 2u, 16u, 31u, 32u, 129u}) {
    const std::vector<float> x = random_row(n, "x");
    const std::vector<float> weight = magnitudes(n, "w");
    for (const bool with_shift : {true, false}) {
      const CandidateMoments m = candidate_moments(x, weight, candidates, with_shift);
      for (std::size_t c = 0; c < kCandidates; ++c) {
        PlainSums sums;
        for (std::size_t i = 0; i < n; ++i) {
          const float shift = with_shift ? candidates.shift[c] : 0.0f;
          const float scaled = std::fma(x[i], candidates.inverse[c], -shift);
          sums.add(weight[i], scaled, std::nearbyint(std::clamp(scaled, candidates.lo[c], candidates.hi[c])));
        }
        expect_near(m, c, sums, with_shift);
      }
    }
  }
}

TEST(CandidateMoments, KeepTheirDigitsOverManyValues) {
  const std::size_t n = 1u << 20;
  const std::vector<float> x(n, 0.3f);
  const std::vector<float> weight(n, 1.0f);
  Candidates candidates;
  candidates.inverse.fill(1.0f);
  candidates.hi.fill(5.0f);
  const CandidateMoments m = candidate_moments(x, weight, candidates, true);
  EXPECT_NEAR(m.e[3], 0.3 * static_cast<double>(n), 1e-4 * static_cast<double>(n));
  EXPECT_NEAR(m.ee[15], 0.09 * static_cast<double>(n), 1e-4 * static_cast<double>(n));
}

TEST(LevelMoments, AreThePlainSumsOverTheNearestLevels) {
  const std::vector<float> levels = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
  CandidateArray inverse;
  for (std::size_t c = 0; c < kCandidates; ++c) inverse[c] = 20.0f * static_cast<float>(c) - 150.0f;
  const std::vector<float> x = random_row(33, "x");
  const std::vector<float> weight = magnitudes(33, "w");
  const CandidateMoments m = level_moments(x, weight, inverse, levels);
  for (std::size_t c = 0; c < kCandidates; ++c) {
    double ll = 0, el = 0, ee = 0, size = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double scaled = x[i] * inverse[c];
      const double level = *std::ranges::min_element(levels, {}, [&](float l) { return std::fabs(scaled - l); });
      ll += weight[i] * level * level;
      el += weight[i] * level * (scaled - level);
      ee += weight[i] * (scaled - level) * (scaled - level);
      size += weight[i] * 2e5;
    }
    EXPECT_NEAR(m.ll[c], ll, 1e-6 * size);
    EXPECT_NEAR(m.el[c], el, 1e-6 * size);
    EXPECT_NEAR(m.ee[c], ee, 1e-6 * size);
  }
}

}  // namespace
}  // namespace adze
