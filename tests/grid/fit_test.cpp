// What fits must do, for every grid there is, and against plain searches where those are possible.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "base/random.h"
#include "grid/grid_testing.h"
#include "grid/quantized_tensor.h"

namespace adze {
namespace {

using Draw = std::function<double(RandomStream&)>;

MatrixF drawn(Shape shape, std::string_view name, const Draw& draw) {
  RandomStream random(9, name);
  MatrixF weights(shape);
  for (float& w : weights.values()) w = static_cast<float>(draw(random));
  return weights;
}

std::vector<float> uneven_importance(std::size_t cols) {
  RandomStream random(10, "importance");
  std::vector<float> importance(cols);
  for (float& h : importance) h = static_cast<float>(std::exp(1.5 * random.normal()));
  return importance;
}

struct Distribution {
  const char* name;
  Draw draw;
};

const std::vector<Distribution>& distributions() {
  static const std::vector<Distribution> all{
      {"gauss", [](RandomStream& r) { return 0.02 * r.normal(); }},
      {"heavy tails", [](RandomStream& r) { return 0.02 * std::pow(r.normal(), 3); }},
      {"shifted", [](RandomStream& r) { return 0.05 + 0.02 * r.normal(); }},
      {"far above", [](RandomStream& r) { return 1.0 + 0.02 * r.normal(); }},
      {"negative", [](RandomStream& r) { return -std::fabs(0.3 * r.normal()); }},
      {"mostly zero", [](RandomStream& r) { return r.uniform() < 0.9 ? 0.0 : r.normal(); }},
      {"two values", [](RandomStream& r) { return r.uniform() < 0.5 ? -0.1 : 0.3; }},
      {"one outlier", [](RandomStream& r) { return r.uniform() < 0.003 ? 3.0 : 0.01 * r.normal(); }},
  };
  return all;
}

struct Fitted {
  Encoding encoding;
  MatrixF decoded;
};

Fitted fitted(const std::shared_ptr<const Grid>& grid, const MatrixF& weights, std::span<const float> importance,
              ScaleRule rule) {
  Encoding encoding(grid, weights.shape());
  encoding.fit_all(weights, importance, rule);
  grid_testing::round_all(encoding, weights);
  MatrixF decoded = encoding.finish()->decode();
  return {std::move(encoding), std::move(decoded)};
}

double weighted_error(const MatrixF& a, const MatrixF& b, std::span<const float> importance) {
  double sum = 0;
  for (std::size_t r = 0; r < a.rows(); ++r)
    for (std::size_t c = 0; c < a.cols(); ++c) sum += importance[c] * std::pow(double{a(r, c)} - b(r, c), 2);
  return sum;
}

class EveryFit : public testing::TestWithParam<GridRequest> {
 protected:
  std::shared_ptr<const Grid> grid = make_grid(GetParam());
};

TEST_P(EveryFit, SearchIsNotWorseThanMinMaxInTheWeightedError) {
  const std::vector<float> importance = uneven_importance(512);
  for (const Distribution& distribution : distributions()) {
    const MatrixF weights = drawn({6, 512}, distribution.name, distribution.draw);
    const auto error = [&](ScaleRule rule) {
      return weighted_error(weights, fitted(grid, weights, importance, rule).decoded, importance);
    };
    const double nothing = 1e-6 * weighted_error(weights, MatrixF(weights.shape()), importance);
    EXPECT_LE(error(ScaleRule::search), error(ScaleRule::minmax) + nothing) << distribution.name;
  }
}

TEST_P(EveryFit, KeepsItsNumbersFiniteWhateverTheWeights) {
  const std::vector<float> ones(256, 1.0f);
  const std::vector<float> zeros(256, 0.0f);
  for (const float size : {0.0f, std::numeric_limits<float>::denorm_min(), 1e-40f, 1e-8f, 65504.0f, 1e8f, 3e38f})
    for (const float outlier : {0.0f, 1.0f, -1e30f})
      for (const std::vector<float>* importance : {&ones, &zeros})
        for (const ScaleRule rule : {ScaleRule::minmax, ScaleRule::search}) {
          MatrixF weights = drawn({1, 256}, "any", [](RandomStream& r) { return 2 * r.uniform() - 1; });
          for (float& w : weights.values()) w *= size;
          if (outlier != 0) weights(0, 77) = outlier;
          const Fitted result = fitted(grid, weights, *importance, rule);
          for (const float value : result.decoded.values()) ASSERT_TRUE(std::isfinite(value)) << size << " " << outlier;
          for (std::size_t i = 0; i < grid->parameters(256).size(); ++i)
            ASSERT_TRUE(std::isfinite(result.encoding.parameter(0, 0, i))) << size << " " << outlier;
        }
}

/// Fills a unit's side data and codes so that every range is used to its ends.
void fill(Encoding& encoding, RandomStream& random) {
  const Grid& grid = encoding.grid();
  const std::size_t cols = encoding.shape().cols;
  const std::size_t groups = grid.groups_per_unit(cols);
  const bool with_minima = !grid.holds_zero() && grid.levels().empty();  // integers are 0 .. most, else signed
  for (std::size_t u = 0; u < grid.units(cols); ++u)
    for (std::size_t i = 0; i < grid.parameters(cols).size(); ++i) {
      const Grid::ScaleParameter where = grid.parameters(cols)[i];
      const bool scales_all = where.groups == groups && (groups > 1 || i == 0);
      const bool first = where.first_group == 0;
      const double integer = groups == 1 ? -0.3 : first ? (with_minima ? 1e3 : -1e3) : 5 + random.below(40);
      encoding.set_parameter(0, u, i, scales_all ? 0.0117f : static_cast<float>(integer));
    }
  for (std::size_t c = 0; c < cols; ++c) {
    const StepGroup& group = encoding.group(0, c);
    const auto any = static_cast<float>(random.below(static_cast<std::uint64_t>(group.hi - group.lo) + 1));
    const std::size_t place = c % encoding.step_cols();
    encoding.codes(0)[c] = static_cast<std::int16_t>(place == 3 ? group.lo : place == 5 ? group.hi : group.lo + any);
  }
}

TEST_P(EveryFit, FindsWeightsOnTheGridAgain) {
  if (grid->one_side_per_tensor()) return;
  RandomStream random(11, "on the grid");
  const MatrixF start = grid_testing::random_weights({1, 512}, "start");
  Encoding encoding = grid_testing::encode(grid, start, ScaleRule::minmax);
  fill(encoding, random);
  const MatrixF weights = encoding.finish()->decode();
  const std::vector<float> importance = uneven_importance(512);
  const MatrixF found = fitted(grid, weights, importance, ScaleRule::search).decoded;
  const double energy = weighted_error(weights, MatrixF(weights.shape()), importance);
  ASSERT_GT(energy, 0);
  EXPECT_LE(weighted_error(weights, found, importance), 1e-6 * energy);
}

INSTANTIATE_TEST_SUITE_P(Grids, EveryFit, testing::ValuesIn(grid_testing::all_grids()), grid_testing::grid_test_name);

/// A block whose weights are zero and unimportant but for the first few.
struct TinyBlock {
  MatrixF weights;
  std::vector<float> importance;

  TinyBlock(std::size_t block, std::size_t few, int seed) : weights(1, block), importance(block, 0.0f) {
    RandomStream random(static_cast<std::uint64_t>(seed), "tiny");
    for (std::size_t i = 0; i < few; ++i) {
      weights(0, i) = static_cast<float>(random.normal());
      importance[i] = static_cast<float>(0.1 + random.uniform());
    }
  }
  double searched(const char* grid) const {
    return weighted_error(weights, fitted(grid_from_name(grid), weights, importance, ScaleRule::search).decoded,
                          importance);
  }
};

/// The least error over all ternary codes of the first `few` weights, each with its best step.
double best_ternary(const TinyBlock& block, std::size_t few) {
  double best = INFINITY;
  std::size_t all = 1;
  for (std::size_t i = 0; i < few; ++i) all *= 3;
  for (std::size_t pattern = 0; pattern < all; ++pattern) {
    double xx = 0, xl = 0, ll = 0;
    std::size_t rest = pattern;
    for (std::size_t i = 0; i < few; ++i, rest /= 3) {
      const double code = static_cast<double>(rest % 3) - 1;
      const double h = block.importance[i];
      xx += h * block.weights(0, i) * block.weights(0, i);
      xl += h * block.weights(0, i) * code;
      ll += h * code * code;
    }
    best = std::min(best, ll > 0 ? xx - xl * xl / ll : xx);
  }
  return best;
}

TEST(TernaryFit, IsTheBestOfAllCodesAndSteps) {
  for (int seed = 0; seed < 20; ++seed) {
    const TinyBlock block(256, 8, seed);
    const double best = best_ternary(block, 8);
    for (const char* grid : {"gguf/tq1_0", "gguf/tq2_0"})
      EXPECT_LE(block.searched(grid), best * (1 + 1e-3) + 1e-6) << grid << " " << seed;
  }
}

TEST(UnevenFit, ComesCloseToTheBestOfAFineSearch) {
  const auto grid = grid_from_name("gguf/iq4_nl");
  double found = 0;
  double possible = 0;
  for (int seed = 0; seed < 20; ++seed) {
    const TinyBlock block(32, 20, seed);
    found += block.searched("gguf/iq4_nl");
    double best = INFINITY;
    Encoding encoding(grid, {1, 32});
    for (int i = -2000; i <= 2000; ++i) {
      encoding.set_parameter(0, 0, 0, 2.5e-5f * static_cast<float>(i));
      encoding.round_row(0, block.weights.row(0));
      best = std::min(best, weighted_error(block.weights, encoding.finish()->decode(), block.importance));
    }
    possible += best;
  }
  EXPECT_LE(found, 1.06 * possible);
}

TEST(PowerOfTwoFit, IsTheBestOfAllExponents) {
  const auto grid = grid_from_name("gguf/mxfp4");
  for (int seed = 0; seed < 50; ++seed) {
    const TinyBlock block(32, 20, seed);
    double best = INFINITY;
    Encoding encoding(grid, {1, 32});
    for (int exponent = -20; exponent <= 10; ++exponent) {
      encoding.set_parameter(0, 0, 0, std::ldexp(1.0f, exponent));
      encoding.round_row(0, block.weights.row(0));
      best = std::min(best, weighted_error(block.weights, encoding.finish()->decode(), block.importance));
    }
    EXPECT_LE(block.searched("gguf/mxfp4"), best * (1 + 1e-6)) << seed;
  }
}

TEST(Fits, NeverWriteCodesThatTheReferenceDoesNot) {
  const MatrixF weights = drawn({4, 512}, "codes", [](RandomStream& r) { return r.normal(); });
  const std::vector<float> ones(512, 1.0f);
  for (const ScaleRule rule : {ScaleRule::minmax, ScaleRule::search}) {
    Encoding encoding = fitted(grid_from_name("gguf/q8_0"), weights, ones, rule).encoding;
    for (std::size_t r = 0; r < 4; ++r) EXPECT_GE(std::ranges::min(encoding.codes(r)), -127);
  }
  MatrixF huge(1, 32);
  for (float& w : huge.values()) w = std::numeric_limits<float>::max();
  const auto stored = fitted(grid_from_name("gguf/mxfp4"), huge, std::vector<float>(32, 1.0f), ScaleRule::search);
  EXPECT_NE(stored.encoding.finish()->payload()[0], std::byte{255});
}

}  // namespace
}  // namespace adze
