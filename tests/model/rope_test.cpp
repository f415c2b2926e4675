#include <complex>
#include <numbers>

#include <gtest/gtest.h>

#include "model/memory_source.h"
#include "model/rope.h"

namespace adze {
namespace {

using testing::random_matrix;

/// Multiplies the pair (i, i + half) as a complex number by exp(i position frequency).
MatrixF rotated_directly(const MatrixF& heads, std::size_t head_dim, const std::vector<double>& frequencies) {
  MatrixF out = heads;
  const std::size_t half = head_dim / 2;
  for (std::size_t t = 0; t < heads.rows(); ++t)
    for (std::size_t first = 0; first < heads.cols(); first += head_dim)
      for (std::size_t i = 0; i < half; ++i) {
        const std::complex<double> pair(heads(t, first + i), heads(t, first + i + half));
        const auto turned = pair * std::polar(1.0, static_cast<double>(t) * frequencies[i]);
        out(t, first + i) = static_cast<float>(turned.real());
        out(t, first + i + half) = static_cast<float>(turned.imag());
      }
  return out;
}

void expect_rotation(const RopeSpec& spec, const std::vector<double>& frequencies) {
  const std::size_t head_dim = 2 * frequencies.size();
  MatrixF heads = random_matrix({70, 3 * head_dim}, "heads");
  const MatrixF expected = rotated_directly(heads, head_dim, frequencies);
  RopeTable(spec, head_dim, head_dim, 70).rotate(heads);
  for (std::size_t i = 0; i < heads.values().size(); ++i)
    ASSERT_NEAR(heads.values()[i], expected.values()[i], 1e-6) << i;
}

TEST(Rope, TurnsHalfSplitPairs) {
  // theta^(-2i/8) for theta = 10000: 1, 0.1, 0.01, 0.001
  expect_rotation(RopeSpec{}, {1.0, 0.1, 0.01, 0.001});
}

/// 6 of 8 elements turn: theirs are pairs (0, 3), (1, 4), (2, 5), with the frequencies of a head of 6.
TEST(Rope, TurnsTheFirstElementsOfAHeadAndLeavesTheOthers) {
  const MatrixF heads = random_matrix({70, 24}, "heads");
  MatrixF part(70, 18), turned = heads;
  for (std::size_t t = 0; t < 70; ++t)
    for (std::size_t i = 0; i < 18; ++i) part(t, i) = heads(t, i / 6 * 8 + i % 6);
  const RopeSpec spec{.theta = 1000};
  const std::vector<double> frequencies = rope_frequencies(spec, 6);
  EXPECT_NEAR(frequencies[1], 0.1, 1e-12);
  const MatrixF expected = rotated_directly(part, 6, frequencies);
  RopeTable(spec, 8, 6, 70).rotate(turned);
  for (std::size_t t = 0; t < 70; ++t)
    for (std::size_t c = 0; c < 24; ++c) {
      const std::size_t head = c / 8, inside = c % 8;
      if (inside < 6)
        ASSERT_NEAR(turned(t, c), expected(t, head * 6 + inside), 1e-6) << t << " " << c;
      else
        ASSERT_EQ(turned(t, c), heads(t, c)) << t << " " << c;
    }
}

TEST(Rope, LinearScalingDividesThePositions) {
  expect_rotation(RopeSpec{.kind = RopeKind::linear, .factor = 4.0}, {0.25, 0.025, 0.0025, 0.00025});
}

TEST(Rope, Llama3ScalingDividesLowFrequenciesOnly) {
  // Wavelengths 2 pi 10^i for theta = 10^4, head_dim 8; with an original context of 400, low 1 and high 4 the bounds
  // are 400 and 100: 6.28 and 62.8 stay, 6283 is divided by the factor, and 628 > 400 too.
  const RopeSpec spec{10000.0, RopeKind::llama3, 8.0, 1.0, 4.0, 400};
  expect_rotation(spec, {1.0, 0.1, 0.01 / 8, 0.001 / 8});
}

TEST(Rope, Llama3ScalingInterpolatesBetweenItsBounds) {
  // Context 1200: bounds 1200 and 300, and the wavelength 628.3 lies between: t = (1200 / 628.32 - 1) / 3 = 0.303286.
  const RopeSpec spec{10000.0, RopeKind::llama3, 8.0, 1.0, 4.0, 1200};
  const double t = (1200.0 / (2 * std::numbers::pi * 100) - 1) / 3;
  const auto frequencies = rope_frequencies(spec, 8);
  EXPECT_NEAR(t, 0.303286, 1e-6);
  EXPECT_NEAR(frequencies[2], 0.01 * ((1 - t) / 8 + t), 1e-15);
  EXPECT_DOUBLE_EQ(frequencies[1], 0.1);
  EXPECT_DOUBLE_EQ(frequencies[3], 0.001 / 8);
  expect_rotation(spec, frequencies);
}

TEST(Rope, LongRopeDividesEachFrequencyByItsOwn) {
  RopeSpec spec;
  spec.kind = RopeKind::longrope;
  spec.divisors = {2, 0.5, 1, 4};
  expect_rotation(spec, {0.5, 0.2, 0.01, 0.001 / 4});
  EXPECT_EQ(rope_divisors(spec, 8), spec.divisors);
}

/// Each window by its own length; single rows by how long their text may become.
TEST(Rope, LongerWindowsThanTheOriginalContextTakeTheOtherDivisors) {
  RopeSpec within{.kind = RopeKind::longrope, .original_max_positions = 20, .divisors = {2, 0.5, 1, 4}};
  RopeSpec beyond = within, both = within;
  beyond.divisors = both.long_divisors = {3, 1, 2, 5};
  const auto turned = [](const RopeSpec& spec, std::size_t positions, std::size_t tokens) {
    MatrixF heads = random_matrix({tokens, 16}, "heads");
    RopeTable(spec, 8, 8, positions).rotate(heads);
    return heads;
  };
  for (const std::size_t positions : {20, 70}) EXPECT_EQ(turned(both, positions, 20), turned(within, 70, 20));
  EXPECT_EQ(turned(both, 70, 21), turned(beyond, 70, 21));
  EXPECT_NE(turned(both, 70, 21), turned(within, 70, 21));

  const auto turned_row = [](const RopeSpec& spec, std::size_t positions) {
    MatrixF heads = random_matrix({1, 16}, "heads");
    RopeTable(spec, 8, 8, positions).rotate_row(7, heads.values());
    return heads;
  };
  EXPECT_EQ(turned_row(both, 20), turned_row(within, 20));
  EXPECT_EQ(turned_row(both, 21), turned_row(beyond, 21));
}

TEST(Rope, DivisorsAreWhatGgufStores) {
  const RopeSpec spec{10000.0, RopeKind::llama3, 8.0, 1.0, 4.0, 400};
  EXPECT_EQ(rope_divisors(spec, 8), (std::vector<double>{1, 1, 8, 8}));
  EXPECT_EQ(rope_divisors(RopeSpec{}, 8), (std::vector<double>{1, 1, 1, 1}));
}

TEST(Rope, AngleBetweenTwoPositionsDependsOnTheirDistance) {
  const MatrixF one = random_matrix({1, 16}, "query");
  MatrixF copies(9, 16);
  for (std::size_t t = 0; t < copies.rows(); ++t) std::ranges::copy(one.values(), copies.row(t).begin());
  RopeTable(RopeSpec{}, 16, 16, 9).rotate(copies);
  const auto product = [&](std::size_t s, std::size_t t) {
    double sum = 0;
    for (std::size_t c = 0; c < 16; ++c) sum += static_cast<double>(copies(s, c)) * copies(t, c);
    return sum;
  };
  EXPECT_NEAR(product(2, 5), product(5, 8), 1e-5);
  EXPECT_GT(std::abs(product(2, 5) - product(2, 6)), 1e-3);
}

}  // namespace
}  // namespace adze
