// The peak of this process: it holds what was held, and never falls.
#include "base/peak_memory.h"

#include <vector>

#include <gtest/gtest.h>

namespace adze {
namespace {

TEST(PeakMemory, GrowsWithWhatIsHeldAndDoesNotFall) {
  constexpr std::size_t kBytes = 64 << 20;
  const std::uint64_t before = peak_memory();
  EXPECT_GT(before, 1U << 20);
  std::uint64_t during = 0;
  {
    const std::vector<char> held(kBytes, 1);
    during = peak_memory();
    EXPECT_EQ(held.back(), 1);
  }
  EXPECT_GE(during, kBytes);
  EXPECT_GE(peak_memory(), during);
}

}  // namespace
}  // namespace adze
