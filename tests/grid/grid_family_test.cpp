// What every grid must do, for every grid there is.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/parallel.h"
#include "base/random.h"
#include "grid/grid_testing.h"
#include "grid/quantized_tensor.h"

namespace adze {
namespace {

using grid_testing::all_grids;
using grid_testing::encode;
using grid_testing::random_weights;
using grid_testing::round_all;
using grid_testing::squared_error;

class EveryGrid : public testing::TestWithParam<GridRequest> {
 protected:
  std::shared_ptr<const Grid> grid = make_grid(GetParam());
  Shape shape{5, 512};
};

TEST_P(EveryGrid, IsFoundAgainByItsName) { EXPECT_EQ(grid_from_name(grid->name())->name(), grid->name()); }

TEST_P(EveryGrid, StoresExactlyTheBytesItAnnounces) {
  const auto stored = encode(grid, random_weights(shape, "bytes"), ScaleRule::search).finish();
  EXPECT_EQ(stored->bytes(), grid->bytes(shape));
  EXPECT_EQ(stored->payload().size(), grid->bytes(shape));
}

TEST_P(EveryGrid, DecodesToTheValuesThatTheSolverSaw) {
  Encoding encoding = encode(grid, random_weights(shape, "decode"), ScaleRule::search);
  const MatrixF decoded = encoding.finish()->decode();
  for (std::size_t r = 0; r < shape.rows; ++r)
    for (std::size_t c = 0; c < shape.cols; ++c) ASSERT_EQ(decoded(r, c), encoding.value(r, c)) << r << " " << c;
}

TEST_P(EveryGrid, UnpacksTheCodesThatWerePacked) {
  Encoding encoding = encode(grid, random_weights(shape, "codes"), ScaleRule::minmax);
  RandomStream random(2, "codes");
  for (std::size_t r = 0; r < shape.rows; ++r)
    for (std::size_t c = 0; c < shape.cols; ++c) {
      const StepGroup& g = encoding.group(r, c);
      encoding.codes(r)[c] = static_cast<std::int16_t>(
          g.lo + static_cast<float>(random.below(static_cast<std::uint64_t>(g.hi - g.lo) + 1)));
    }
  const auto stored = std::dynamic_pointer_cast<const QuantizedTensor>(encoding.finish());
  std::vector<std::int16_t> codes(shape.cols);
  std::vector<StepGroup> groups(shape.cols / grid->step_cols(shape.cols));
  for (std::size_t r = 0; r < shape.rows; ++r) {
    stored->unpack(r, codes, groups);
    EXPECT_THAT(codes, testing::ElementsAreArray(encoding.codes(r)));
    for (std::size_t g = 0; g < groups.size(); ++g)
      EXPECT_EQ(groups[g].step, encoding.group(r, g * grid->step_cols(shape.cols)).step);
  }
}

TEST_P(EveryGrid, UnpacksSideDataAloneAsWithTheCodes) {
  const auto stored = std::dynamic_pointer_cast<const QuantizedTensor>(
      encode(grid, random_weights(shape, "side"), ScaleRule::minmax).finish());
  const std::size_t head = grid->one_side_per_tensor() ? grid->side_bytes() : 0;
  std::vector<std::byte> alone(grid->units(shape.cols) * grid->side_bytes());
  std::copy_n(stored->payload().begin(), head, alone.begin());
  std::vector<std::byte> with_codes = alone;
  std::vector<std::int16_t> codes(shape.cols);
  for (std::size_t r = 0; r < shape.rows; ++r) {
    grid->unpack_side(stored->row(r), shape.cols, alone);
    grid->unpack_row(stored->row(r), codes, with_codes);
    EXPECT_EQ(alone, with_codes);
  }
}

TEST_P(EveryGrid, KnowsFromItsStepsThatValuesAreFinite) {
  const auto stored = std::dynamic_pointer_cast<const QuantizedTensor>(
      encode(grid, random_weights(shape, "finite"), ScaleRule::minmax).finish());
  // Bytes of E4M3 may be NaN, which only decoding sees.
  EXPECT_EQ(stored->steps_bound_values(0, shape.rows), grid->levels().empty() || grid->code_bits() < 8);
  RandomStream random(3, "finite");
  for (int i = 0; i < 300; ++i) {
    std::vector<std::byte> payload(grid->bytes({1, shape.cols}));
    for (std::byte& byte : payload) byte = static_cast<std::byte>(random.below(256));
    const QuantizedTensor tensor(grid, {1, shape.cols}, payload);
    if (!tensor.steps_bound_values(0, 1)) continue;
    std::vector<float> values(shape.cols);
    tensor.decode_rows(0, 1, values);
    for (const float value : values) ASSERT_TRUE(std::isfinite(value));
  }
}

TEST(StepsOfAGrid, ThatAreNotFiniteBoundNothing) {
  const auto grid = grid_from_name("gguf/q4_0");
  std::vector<std::byte> payload(grid->bytes({2, 64}));
  EXPECT_TRUE(QuantizedTensor(grid, {2, 64}, payload).steps_bound_values(0, 2));
  payload[2 * 18 + 18 + 1] = std::byte{0x7c};  // the scale of the last block becomes infinite
  const QuantizedTensor spoiled(grid, {2, 64}, payload);
  EXPECT_TRUE(spoiled.steps_bound_values(0, 1));
  EXPECT_FALSE(spoiled.steps_bound_values(1, 1));
}

/// Half the widest gap between neighbouring levels, in steps.
float half_a_gap(const Grid& grid) {
  float widest = 1;
  for (std::size_t k = 0; k + 1 < grid.levels().size(); ++k)
    widest = std::max(widest, grid.levels()[k + 1] - grid.levels()[k]);
  return 0.5f * widest;
}

TEST_P(EveryGrid, KeepsUnclippedWeightsWithinHalfAStep) {
  const MatrixF weights = random_weights(shape, "half a step");
  Encoding encoding = encode(grid, weights, ScaleRule::minmax);
  const float most = half_a_gap(*grid);
  std::size_t inside = 0;
  for (std::size_t r = 0; r < shape.rows; ++r)
    for (std::size_t c = 0; c < shape.cols; ++c) {
      const StepGroup& g = encoding.group(r, c);
      const float level = (weights(r, c) - g.offset) / g.step;
      const bool affine = grid->levels().empty();
      if (level < (affine ? g.lo : grid->levels().front()) || level > (affine ? g.hi : grid->levels().back())) continue;
      ++inside;
      ASSERT_LE(std::fabs(weights(r, c) - encoding.value(r, c)), most * 1.0002f * std::fabs(g.step) + 1e-7f);
    }
  EXPECT_GT(inside, shape.count() / 2);
}

TEST_P(EveryGrid, SearchIsNotWorseThanMinMaxInTheErrorItSearches) {
  const MatrixF weights = random_weights(shape, "search");
  const double minmax = squared_error(weights, encode(grid, weights, ScaleRule::minmax).finish()->decode());
  const double search = squared_error(weights, encode(grid, weights, ScaleRule::search).finish()->decode());
  EXPECT_LE(search, minmax);
}

TEST_P(EveryGrid, RoundingItsOwnValuesChangesNothing) {
  Encoding encoding = encode(grid, random_weights(shape, "twice"), ScaleRule::search);
  const auto once = encoding.finish();
  round_all(encoding, once->decode());
  EXPECT_THAT(encoding.finish()->payload(), testing::ElementsAreArray(once->payload()));
}

TEST_P(EveryGrid, HoldsAllZeroAndConstantRows) {
  MatrixF weights(shape);
  for (float& w : weights.row(1)) w = 0.25f;
  for (float& w : weights.row(2)) w = -3.0f;
  const MatrixF decoded = encode(grid, weights, ScaleRule::search).finish()->decode();
  for (std::size_t c = 0; c < shape.cols; ++c) {
    if (!grid->one_side_per_tensor()) {
      EXPECT_EQ(decoded(0, c), 0.0f);
      EXPECT_NEAR(decoded(1, c), 0.25f, 0.01f);
    }
    EXPECT_NEAR(decoded(2, c), -3.0f, grid->code_bits() == 2 && grid->one_side_per_tensor() ? 1.0f : 0.2f);
  }
}

TEST_P(EveryGrid, SurvivesTinyAndHugeWeights) {
  for (const float scale : {1e-38f, 1e-12f, 1e4f, 1e30f}) {
    MatrixF weights = random_weights(shape, "range");
    for (float& w : weights.values()) w *= scale;
    for (const ScaleRule rule : {ScaleRule::minmax, ScaleRule::search}) {
      const MatrixF decoded = encode(grid, weights, rule).finish()->decode();
      for (const float value : decoded.values()) ASSERT_TRUE(std::isfinite(value));
    }
  }
}

TEST_P(EveryGrid, IgnoresWeightsWithoutImportance) {
  if (grid->one_side_per_tensor()) return;
  MatrixF weights = random_weights({1, 512}, "importance");
  std::vector<float> importance(512, 1.0f);
  for (std::size_t c = 0; c < 512; c += 16) {
    weights(0, c) = 1.0f;  // twenty times the others
    importance[c] = 0.0f;
  }
  const auto error_of_the_rest = [&](const std::vector<float>& given) {
    Encoding encoding(grid, weights.shape());
    encoding.fit_all(weights, given, ScaleRule::search);
    round_all(encoding, weights);
    double sum = 0;
    for (std::size_t c = 0; c < 512; ++c)
      if (importance[c] > 0) sum += std::pow(weights(0, c) - encoding.value(0, c), 2);
    return sum;
  };
  // Elements with an exponent of four bits keep their digits beside larger ones: there is little to win.
  const double most = grid->code_bits() == 8 && !grid->levels().empty() ? 1.0 : 0.5;
  EXPECT_LT(error_of_the_rest(importance), most * error_of_the_rest(std::vector<float>(512, 1.0f)));
}

TEST_P(EveryGrid, GivesTheSameBytesForAnyThreadCount) {
  const MatrixF weights = random_weights({67, 512}, "threads");
  set_thread_count(1);
  const auto one = encode(grid, weights, ScaleRule::search).finish();
  set_thread_count(4);
  const auto four = encode(grid, weights, ScaleRule::search).finish();
  set_thread_count(0);
  EXPECT_THAT(four->payload(), testing::ElementsAreArray(one->payload()));
}

TEST_P(EveryGrid, RefusesPayloadsOfAnyOtherSize) {
  const auto stored = encode(grid, random_weights({1, 512}, "size"), ScaleRule::minmax).finish();
  const std::vector<std::byte> whole(stored->payload().begin(), stored->payload().end());
  for (std::size_t size = 0; size <= whole.size() + 1; ++size) {
    std::vector<std::byte> payload = whole;
    payload.resize(size);
    if (size == whole.size()) {
      EXPECT_NO_THROW(QuantizedTensor(grid, {1, 512}, payload));
    } else {
      EXPECT_THROW(QuantizedTensor(grid, {1, 512}, payload), Error);
    }
  }
}

TEST_P(EveryGrid, RefusesRowsThatDoNotDivide) {
  const auto reason = grid->cannot_hold(100);
  const bool any_width = grid->unit_cols(100) == 100;
  EXPECT_EQ(reason.has_value(), !any_width);
  if (reason) {
    EXPECT_THAT(*reason, testing::HasSubstr("100"));
    EXPECT_THROW(Encoding(grid, {1, 100}), Error);
  }
}

INSTANTIATE_TEST_SUITE_P(Grids, EveryGrid, testing::ValuesIn(all_grids()), grid_testing::grid_test_name);

}  // namespace
}  // namespace adze
