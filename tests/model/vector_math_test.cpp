#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "linalg/vector_math.h"
#include "model/memory_source.h"
#include "model/norm.h"

namespace adze {
namespace {

TEST(ExpShifted, AgreesWithStdExp) {
  std::vector<float> values;
  for (int i = 0; i < 200000; ++i) values.push_back(-87.3f + static_cast<float>(i) * (175.0f / 200000));
  std::vector<float> results(values.size());
  exp_shifted(values, 0.0f, 1.0f, results);
  double worst = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double exact = std::exp(static_cast<double>(values[i]));
    worst = std::max(worst, std::abs(results[i] - exact) / exact);
  }
  EXPECT_LT(worst, 2e-7);
  EXPECT_GT(worst, 1e-9);  // it is float
}

TEST(ExpShifted, IsExactAtZeroAndZeroFarBelow) {
  std::vector<float> values = {0.0f, -0.0f, -87.5f, -1e30f, -INFINITY, 1000.0f};
  exp_shifted(values, 0.0f, 1.0f, values);
  EXPECT_EQ(values[0], 1.0f);
  EXPECT_EQ(values[1], 1.0f);
  EXPECT_EQ(values[2], 0.0f);
  EXPECT_EQ(values[3], 0.0f);
  EXPECT_EQ(values[4], 0.0f);
  EXPECT_TRUE(std::isfinite(values[5]));
}

TEST(ExpShifted, SumsAndTreatsEveryElementAlikeAtAnyLength) {
  const std::vector<float> all = testing::random_values(67, "exp", 3.0, -5.0);
  std::vector<float> whole(all.size());
  exp_shifted(all, 2.0f, 0.25f, whole);
  for (std::size_t count = 0; count <= all.size(); ++count) {
    std::vector<float> part(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(count));
    const double sum = exp_shifted(part, 2.0f, 0.25f, part);
    double expected = 0;
    for (std::size_t i = 0; i < count; ++i) {
      ASSERT_EQ(part[i], whole[i]) << count;
      ASSERT_NEAR(part[i], std::exp((all[i] - 2.0) * 0.25), 1e-6);
      expected += part[i];
    }
    ASSERT_NEAR(sum, expected, 1e-12);
  }
}

TEST(Largest, FindsTheMaximumAtEveryPlace) {
  for (std::size_t count = 1; count <= 40; ++count)
    for (std::size_t place = 0; place < count; ++place) {
      std::vector<float> values(count, -3.0f);
      values[place] = -1.0f;
      ASSERT_EQ(largest(values), -1.0f) << place << " of " << count;
    }
}

TEST(LargestMagnitude, FindsEitherSignAtEveryPlace) {
  EXPECT_EQ(largest_magnitude({}), 0.0f);
  for (std::size_t count = 1; count <= 40; ++count)
    for (std::size_t place = 0; place < count; ++place)
      for (const float most : {-3.0f, 3.0f}) {
        std::vector<float> values(count, -most / 4);
        values[place] = most;
        ASSERT_EQ(largest_magnitude(values), 3.0f) << place << " of " << count;
      }
}

TEST(MultiplyBy, ReachesEveryElement) {
  for (std::size_t count = 0; count <= 40; ++count) {
    std::vector<float> values(count, 3.0f);
    multiply_by(0.5f, values);
    ASSERT_EQ(values, std::vector<float>(count, 1.5f));
  }
}

TEST(Swiglu, AgreesWithItsFormula) {
  const MatrixF gate = testing::random_matrix({3, 37}, "gate", 4.0);
  MatrixF up = testing::random_matrix({3, 37}, "up");
  const MatrixF before = up;
  apply_gate(Activation::silu, gate, up);
  for (std::size_t i = 0; i < up.values().size(); ++i) {
    const double g = gate.values()[i];
    ASSERT_NEAR(up.values()[i], g / (1 + std::exp(-g)) * before.values()[i], 3e-6);
  }
}

TEST(Swiglu, StaysFiniteForHugeGates) {
  MatrixF gate(1, 20), up(1, 20);
  for (std::size_t i = 0; i < 20; ++i) {
    gate(0, i) = i % 2 == 0 ? -1e30f : 1e30f;
    up(0, i) = 1.0f;
  }
  apply_gate(Activation::silu, gate, up);
  for (std::size_t i = 0; i < 20; ++i) {
    EXPECT_TRUE(std::isfinite(up(0, i)));
    EXPECT_TRUE(i % 2 == 0 || up(0, i) == 1e30f);
  }
}

TEST(GeluTanh, AgreesWithItsFormulaAndStaysFinite) {
  MatrixF gate = testing::random_matrix({3, 37}, "gate", 4.0);
  gate(0, 0) = -1e30f;
  gate(0, 1) = 1e30f;
  gate(0, 2) = 0;
  MatrixF up = testing::random_matrix({3, 37}, "up");
  const MatrixF before = up;
  apply_gate(Activation::gelu_tanh, gate, up);
  for (std::size_t i = 0; i < up.values().size(); ++i) {
    const double g = gate.values()[i];
    const double gelu = 0.5 * g * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (g + 0.044715 * g * g * g)));
    ASSERT_NEAR(up.values()[i], gelu * before.values()[i], 3e-6 + 1e-6 * std::fabs(gelu)) << g;
  }
}

TEST(SoftCap, AgreesWithTheHyperbolicTangent) {
  for (std::size_t count = 0; count <= 40; ++count) {
    std::vector<float> values = testing::random_values(count, "scores");
    for (std::size_t i = 0; i < count; ++i) values[i] *= static_cast<float>(10 * i);
    const std::vector<float> before = values;
    soft_cap(50.0f, 0.25f, values);
    for (std::size_t i = 0; i < count; ++i)
      ASSERT_NEAR(values[i], 50 * std::tanh(0.25 * before[i] / 50), 5e-5) << before[i];
  }
  std::vector<float> huge = {-1e30f, 1e30f};
  soft_cap(30.0f, 1.0f, huge);
  EXPECT_EQ(huge, (std::vector<float>{-30.0f, 30.0f}));
}

TEST(RmsNorm, TakesPartsOfARowAndAddsItsOffset) {
  const MatrixF x = testing::random_matrix({2, 12}, "x", 2.0);
  const std::vector<float> weight = testing::random_values(4, "w");
  std::vector<float> gains = weight;
  for (float& gain : gains) gain += 1;
  MatrixF parts = x;
  rms_norm_parts(weight, {.eps = 1e-2, .offset = 1}, parts);
  for (std::size_t first = 0; first < 12; first += 4) {
    MatrixF alone(2, 4);
    for (std::size_t r = 0; r < 2; ++r) std::ranges::copy(x.row(r).subspan(first, 4), alone.row(r).begin());
    rms_norm(alone, gains, {.eps = 1e-2}, alone);
    for (std::size_t r = 0; r < 2; ++r)
      EXPECT_TRUE(std::ranges::equal(alone.row(r), parts.row(r).subspan(first, 4))) << first;
  }
}

MatrixF matrix_of(Shape shape, const std::vector<float>& values) {
  MatrixF matrix(shape);
  std::ranges::copy(values, matrix.values().begin());
  return matrix;
}

TEST(LayerNorm, AgreesWithItsFormulaInPlaceToo) {
  MatrixF out = matrix_of({1, 4}, {1, 2, 3, 6});  // mean 3, variance 3.5
  const std::vector<float> weight = {1, 2, -1, 0.5f}, bias = {0, 1, 0, -1};
  layer_norm(out, weight, bias, 0.5, out);  // the root of 4
  EXPECT_THAT(out.values(), ::testing::ElementsAre(-1, 0, 0, -0.25f));
}

TEST(Activate, IsTheGateOfOnes) {
  MatrixF x = matrix_of({2, 3}, {-1, 0, 2, 0.5f, -3, 1});
  MatrixF gelu = x, ones = matrix_of({2, 3}, {1, 1, 1, 1, 1, 1});
  apply_gate(Activation::gelu_tanh, x, ones);
  activate(Activation::gelu_tanh, gelu);
  EXPECT_EQ(gelu, ones);
  activate(Activation::relu, x);
  EXPECT_THAT(x.values(), ::testing::ElementsAre(0, 0, 2, 0.5f, 0, 1));
}

TEST(RmsNorm, AgreesWithItsFormulaInPlaceToo) {
  const MatrixF x = testing::random_matrix({4, 19}, "x", 2.0);
  const std::vector<float> weight = testing::random_values(19, "w");
  MatrixF out(x.shape());
  rms_norm(x, weight, {.eps = 1e-2}, out);
  for (std::size_t r = 0; r < x.rows(); ++r) {
    double square = 0;
    for (const float value : x.row(r)) square += static_cast<double>(value) * value;
    const double root = std::sqrt(square / 19 + 1e-2);
    for (std::size_t c = 0; c < 19; ++c) ASSERT_NEAR(out(r, c), x(r, c) / root * weight[c], 1e-6);
  }
  MatrixF same = x;
  rms_norm(same, weight, {.eps = 1e-2}, same);
  EXPECT_TRUE(same == out);
}

TEST(RmsNorm, OfARowIsOfItsBitsAlone) {
  const MatrixF x = testing::random_matrix({7, 37}, "x", 2.0);  // several rows at a time, and a rest
  const std::vector<float> weight = testing::random_values(37, "w");
  MatrixF out(x.shape());
  rms_norm(x, weight, {.eps = 1e-2, .offset = 0.5f}, out);
  for (std::size_t r = 0; r < x.rows(); ++r) {
    double square = 0;
    for (const float value : x.row(r)) square += static_cast<double>(value) * value;
    const auto scale = static_cast<float>(1.0 / std::sqrt(square / 37 + 1e-2));
    MatrixF alone(1, 37);
    std::ranges::copy(x.row(r), alone.row(0).begin());
    rms_norm(alone, weight, {.eps = 1e-2, .offset = 0.5f}, alone);
    for (std::size_t c = 0; c < 37; ++c) {
      EXPECT_EQ(alone(0, c), out(r, c)) << r << " " << c;
      EXPECT_NEAR(out(r, c), x(r, c) * scale * (0.5f + weight[c]), 1e-6) << r << " " << c;
    }
  }
}

struct Softmax {
  std::vector<float> logits, exponentials;
  SoftmaxView view;

  explicit Softmax(std::vector<float> values) : logits(std::move(values)), exponentials(logits.size()) {
    const float most = largest(logits);
    view = {logits, exponentials, most, exp_shifted(logits, most, 1.0f, exponentials)};
  }
};

TEST(CompareSoftmaxes, GivesTheSumsOfTheDefinitionsAtAnyLength) {
  for (const std::size_t vocab : {1, 2, 7, 8, 9, 33, 500}) {
    const Softmax p(testing::random_values(vocab, "p", 2.0)), q(testing::random_values(vocab, "q", 2.0));
    const SoftmaxSums sums = compare_softmaxes(p.view, q.view);
    double shift = 0, variation = 0, depth_p = 0, depth_q = 0;
    for (std::size_t v = 0; v < vocab; ++v) {
      const double of_p = std::exp(static_cast<double>(p.logits[v]) - p.view.largest) / p.view.sum;
      const double of_q = std::exp(static_cast<double>(q.logits[v]) - q.view.largest) / q.view.sum;
      shift += of_p * (static_cast<double>(p.logits[v]) - q.logits[v]);
      variation += std::abs(of_p - of_q);
      depth_p += of_p * (static_cast<double>(p.view.largest) - p.logits[v]);
      depth_q += of_q * (static_cast<double>(q.view.largest) - q.logits[v]);
    }
    EXPECT_NEAR(sums.shift, shift, 2e-6) << vocab;
    EXPECT_NEAR(sums.variation, variation, 2e-6) << vocab;
    EXPECT_NEAR(sums.depth_p, depth_p, 2e-6) << vocab;
    EXPECT_NEAR(sums.depth_q, depth_q, 2e-6) << vocab;
  }
}

TEST(CompareSoftmaxes, OfEqualOnesIsExactlyNothing) {
  const Softmax p(testing::random_values(333, "p", 4.0));
  const SoftmaxSums sums = compare_softmaxes(p.view, p.view);
  EXPECT_EQ(sums.shift, 0);
  EXPECT_EQ(sums.variation, 0);
  EXPECT_EQ(sums.depth_p, sums.depth_q);
}

TEST(LargestPlaces, AreThoseOfASortTiesLowestFirst) {
  for (const std::size_t count : {1, 5, 20, 21, 63, 64, 65, 1000, 4096}) {
    std::vector<float> values = testing::random_values(count, "top");
    for (float& value : values) value = std::round(8 * value) / 8;  // ties
    std::vector<std::uint32_t> sorted(count);
    std::iota(sorted.begin(), sorted.end(), 0U);
    std::ranges::stable_sort(sorted, [&](std::uint32_t a, std::uint32_t b) { return values[a] > values[b]; });
    for (const std::size_t wanted : {std::size_t{1}, std::min<std::size_t>(20, count)}) {
      std::vector<std::uint32_t> ids(wanted);
      largest_places(values, ids);
      EXPECT_TRUE(std::ranges::equal(ids, std::span(sorted).first(wanted))) << count << " " << wanted;
    }
  }
}

}  // namespace
}  // namespace adze
