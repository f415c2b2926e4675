// The numbers of side data that solvers may move, for every grid there is.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "grid/grid_testing.h"
#include "grid/quantized_tensor.h"
#include "linalg/rounding.h"

namespace adze {
namespace {

constexpr Shape kShape{3, 512};

class EveryParameter : public testing::TestWithParam<GridRequest> {
 protected:
  std::shared_ptr<const Grid> grid = make_grid(GetParam());
  Encoding encoding = grid_testing::encode(grid, grid_testing::random_weights(kShape, "parameters"), ScaleRule::search);

  std::size_t count() const { return grid->parameters(kShape.cols).size(); }
  std::size_t groups() const { return grid->groups_per_unit(kShape.cols); }
  std::vector<StepGroup> unit_groups(std::size_t row) const {
    std::vector<StepGroup> all;
    for (std::size_t g = 0; g < groups(); ++g) all.push_back(encoding.group(row, g * encoding.step_cols()));
    return all;
  }
};

TEST_P(EveryParameter, LevelsAscendAndAreIndexedByCodes) {
  const std::span<const float> levels = grid->levels();
  EXPECT_TRUE(std::ranges::is_sorted(levels));
  const StepGroup& group = encoding.group(0, 0);
  if (levels.empty()) return;
  EXPECT_EQ(group.lo, 0.0f);
  EXPECT_EQ(group.hi, static_cast<float>(levels.size() - 1));
  for (std::size_t code = 0; code < levels.size(); ++code) {
    encoding.codes(0)[0] = static_cast<std::int16_t>(code);
    EXPECT_EQ(encoding.value(0, 0), group.step * levels[code] + group.offset);
  }
}

TEST_P(EveryParameter, ExistsUnlessOneSideServesTheTensor) {
  EXPECT_EQ(count() == 0, grid->one_side_per_tensor());
  for (const Grid::ScaleParameter& parameter : grid->parameters(kShape.cols)) {
    EXPECT_GE(parameter.groups, 1u);
    EXPECT_LE(parameter.first_group + parameter.groups, groups());
  }
}

TEST_P(EveryParameter, IsAnInternalErrorWhereThereIsNone) {
  if (count() > 0) return;
  const std::vector<std::byte> side(grid->side_bytes());
  EXPECT_THROW(encoding.set_parameter(0, 0, 0, 1.0f), Error);
  EXPECT_THROW(encoding.set_side(0, 0, side), Error);
}

TEST_P(EveryParameter, SetToItsOwnValueChangesNothing) {
  for (std::size_t i = 0; i < count(); ++i) {
    const std::vector<std::byte> before(encoding.side_of(1, 0).begin(), encoding.side_of(1, 0).end());
    encoding.set_parameter(1, 0, i, encoding.parameter(1, 0, i));
    EXPECT_THAT(encoding.side_of(1, 0), testing::ElementsAreArray(before)) << i;
    encoding.set_parameter(1, 0, i, NAN);
    EXPECT_THAT(encoding.side_of(1, 0), testing::ElementsAreArray(before)) << i;
  }
}

TEST_P(EveryParameter, MovesStepsAndOffsetsAlongItsSlopes) {
  for (std::size_t i = 0; i < count(); ++i) {
    const Grid::ScaleParameter where = grid->parameters(kShape.cols)[i];
    std::vector<Grid::Slope> slopes(where.groups);
    grid->slopes(encoding.side_of(0, 0), i, slopes);
    const std::vector<StepGroup> before = unit_groups(0);
    const std::vector<std::byte> side(encoding.side_of(0, 0).begin(), encoding.side_of(0, 0).end());
    const float old_value = encoding.parameter(0, 0, i);
    for (const float wanted : {old_value * 1.25f, old_value * 0.5f, old_value + 1.0f, old_value - 1.0f}) {
      encoding.set_parameter(0, 0, i, wanted);
      const float moved = encoding.parameter(0, 0, i) - old_value;
      const std::vector<StepGroup> after = unit_groups(0);
      for (std::size_t g = 0; g < groups(); ++g) {
        const bool inside = g >= where.first_group && g < where.first_group + where.groups;
        const Grid::Slope slope = inside ? slopes[g - where.first_group] : Grid::Slope{};
        EXPECT_NEAR(after[g].step, before[g].step + moved * slope.step, 1e-6f * (1 + std::fabs(after[g].step)));
        EXPECT_NEAR(after[g].offset, before[g].offset + moved * slope.offset, 1e-6f * (1 + std::fabs(after[g].offset)));
        EXPECT_EQ(after[g].lo, before[g].lo);
        EXPECT_EQ(after[g].hi, before[g].hi);
      }
      encoding.set_side(0, 0, side);
    }
    EXPECT_EQ(encoding.parameter(0, 0, i), old_value);
  }
}

/// Values to ask for: near the present one, far away, of the other sign.
std::vector<float> wishes(float value) {
  std::vector<float> all{0.0f, 1e30f, -1e30f, INFINITY, -INFINITY, -value};
  for (const float factor : {0.1f, 0.7f, 0.99f, 1.01f, 1.4f, 30.0f}) all.push_back(factor * value);
  for (const float shift : {-200.0f, -1.6f, -0.4f, 0.4f, 0.6f, 1.7f, 200.0f}) all.push_back(value + shift);
  return all;
}

TEST_P(EveryParameter, StoresNothingNearerThanWhatItStores) {
  for (std::size_t i = 0; i < count(); ++i) {
    const float present = encoding.parameter(0, 0, i);
    std::vector<float> held;  // what the format was seen to hold
    for (const float wish : wishes(present)) {
      encoding.set_parameter(0, 0, i, wish);
      held.push_back(encoding.parameter(0, 0, i));
      EXPECT_TRUE(std::isfinite(held.back()));
      encoding.set_parameter(0, 0, i, present);
    }
    for (const float wish : wishes(present)) {
      if (std::isinf(wish)) continue;
      encoding.set_parameter(0, 0, i, wish);
      const double distance = std::fabs(double{wish} - encoding.parameter(0, 0, i));
      for (const float other : held) EXPECT_LE(distance, std::fabs(double{wish} - other)) << i << " " << wish;
      encoding.set_parameter(0, 0, i, present);
    }
  }
}

TEST_P(EveryParameter, ReachesTheFileThatIsStored) {
  if (count() == 0) return;
  encoding.set_parameter(2, 0, 0, 0.5f * encoding.parameter(2, 0, 0));
  const MatrixF decoded = encoding.finish()->decode();
  for (std::size_t c = 0; c < kShape.cols; ++c) ASSERT_EQ(decoded(2, c), encoding.value(2, c));
}

TEST_P(EveryParameter, RowsAreRoundedToTheNearestValues) {
  const MatrixF weights = grid_testing::random_weights(kShape, "nearest");
  encoding.round_row(0, weights.row(0));
  for (std::size_t c = 0; c < kShape.cols; ++c) {
    const float chosen = std::fabs(encoding.value(0, c) - weights(0, c));
    const StepGroup& group = encoding.group(0, c);
    const float slack = 1e-6f * (std::fabs(group.step * 64) + std::fabs(group.offset));
    const std::int16_t code = encoding.codes(0)[c];
    for (int other = static_cast<int>(group.lo); other <= static_cast<int>(group.hi); ++other) {
      encoding.codes(0)[c] = static_cast<std::int16_t>(other);
      ASSERT_LE(chosen, std::fabs(encoding.value(0, c) - weights(0, c)) + slack) << c << ": " << code << " " << other;
    }
    encoding.codes(0)[c] = code;
  }
}

INSTANTIATE_TEST_SUITE_P(Grids, EveryParameter, testing::ValuesIn(grid_testing::all_grids()),
                         grid_testing::grid_test_name);

struct Stored {
  const char* grid;
  std::size_t index;
  float wish;
  float expected;
};

TEST(Parameters, StopAtTheLimitsOfTheirFormats) {
  const std::vector<Stored> all{
      {"gguf/q4_0", 0, -0.5f, -0.5f},       {"gguf/q4_0", 0, 1e9f, 65504.0f},  {"gguf/q8_0", 0, -0.5f, 0x1p-24f},
      {"gguf/q4_k", 0, -1.0f, 0x1p-24f},    {"gguf/q4_k", 1, -1.0f, 0.0f},     {"gguf/q4_k", 2, 70.0f, 63.0f},
      {"gguf/q4_k", 9, -3.0f, 0.0f},        {"gguf/q4_k", 10, 12.5f, 12.0f},   {"int4 g128 sym", 0, 0.0f, 0x1p-24f},
      {"int4 g128 sym f32", 0, 0.1f, 0.1f}, {"int3 g128 asym", 1, 9.0f, 7.0f}, {"int3 g128 asym", 1, 2.6f, 3.0f},
  };
  const MatrixF weights = grid_testing::random_weights({1, 256}, "limits");
  for (const Stored& one : all) {
    Encoding encoding = grid_testing::encode(grid_from_name(one.grid), weights, ScaleRule::minmax);
    encoding.set_parameter(0, 0, one.index, one.wish);
    EXPECT_EQ(encoding.parameter(0, 0, one.index), one.expected) << one.grid << " " << one.index << " " << one.wish;
  }
}

}  // namespace
}  // namespace adze
