#include "base/zeroed_array.h"

#include <limits>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace adze {
namespace {

TEST(ZeroedArray, StartsAtZeroEvenWhereMemoryWasUsedBefore) {
  for (int round = 0; round < 3; ++round)
    for (const std::size_t size : {1u, 7u, 1000u, 1000000u}) {
      ZeroedArray<int> array(size);
      ASSERT_EQ(array.size(), size);
      for (int& value : array) {
        ASSERT_EQ(value, 0);
        value = -1;
      }
    }
}

TEST(ZeroedArray, CopiesAreIndependentAndMovesLeaveNothing) {
  ZeroedArray<float> array(3);
  array[1] = 5;
  ZeroedArray<float> copy = array;
  EXPECT_EQ(copy, array);
  copy[1] = 6;
  EXPECT_EQ(array[1], 5.0f);
  EXPECT_FALSE(copy == array);
  const ZeroedArray<float> moved = std::move(copy);
  EXPECT_EQ(moved[1], 6.0f);
  array = moved;
  EXPECT_EQ(array, moved);
  array = ZeroedArray<float>();
  EXPECT_TRUE(array.empty());
  EXPECT_EQ(array.begin(), array.end());
}

TEST(ZeroedArray, ASizeThatOverflowsIsOutOfMemoryNotAShortArray) {
  const volatile std::size_t size = std::numeric_limits<std::size_t>::max() / 4;  // compilers would see through it
  EXPECT_THROW(ZeroedArray<double>{size}, std::bad_alloc);
}

}  // namespace
}  // namespace adze
