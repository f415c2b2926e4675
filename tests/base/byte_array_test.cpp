#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <new>
#include <span>
#include <utility>
#include <vector>

#include "base/byte_array.h"

namespace adze {
namespace {

TEST(ByteArray, HoldsWhatWasWritten) {
  ByteArray bytes(1000);
  ASSERT_EQ(bytes.size(), 1000u);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes.data()[i] = static_cast<std::byte>(i);
  const std::span<const std::byte> seen = bytes;
  for (std::size_t i = 0; i < seen.size(); ++i) ASSERT_EQ(seen[i], static_cast<std::byte>(i));
  EXPECT_TRUE(ByteArray(0).empty());
  EXPECT_TRUE(ByteArray().empty());
}

TEST(ByteArray, TakesAVectorOverWithoutACopy) {
  std::vector<std::byte> vector(64, std::byte{7});
  const std::byte* const place = vector.data();
  ByteArray bytes = std::move(vector);
  EXPECT_EQ(bytes.data(), place);
  EXPECT_EQ(std::ranges::count(bytes, std::byte{7}), 64);
}

TEST(ByteArray, BeginsWithAPageWhateverItsSize) {
  for (const std::size_t size : {std::size_t{1}, std::size_t{4095}, std::size_t{4097}, std::size_t{3'000'001}}) {
    ByteArray bytes(size);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(bytes.data()) % 4096, 0u) << size;
    std::ranges::fill(bytes, std::byte{9});
    EXPECT_EQ(std::ranges::count(bytes, std::byte{9}), static_cast<std::ptrdiff_t>(size));
  }
  EXPECT_THROW(ByteArray(std::numeric_limits<std::size_t>::max()), std::bad_alloc);
}

TEST(ByteArray, GivesItsBytesAsAVector) {
  std::vector<std::byte> vector(64, std::byte{7});
  const std::byte* const place = vector.data();
  const std::vector<std::byte> same = ByteArray(std::move(vector)).take();
  EXPECT_EQ(same.data(), place);
  ByteArray raw(3);
  std::ranges::fill(raw, std::byte{4});
  EXPECT_EQ(std::move(raw).take(), std::vector<std::byte>(3, std::byte{4}));
  EXPECT_TRUE(ByteArray(0).take().empty());
}

TEST(ByteArray, MovesAndLeavesNothingBehind) {
  ByteArray from(std::vector<std::byte>(3, std::byte{1})), to(5);
  const std::byte* const place = from.data();
  to = std::move(from);
  EXPECT_EQ(to.size(), 3u);
  EXPECT_EQ(to.data(), place);
  ByteArray raw(9);
  const ByteArray moved = std::move(raw);
  EXPECT_EQ(moved.size(), 9u);
}

}  // namespace
}  // namespace adze
